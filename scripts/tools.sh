# Sourced by the other scripts: makes sure that the tools are there that they use in the instances.

# command:package, where the package isn't called as the command.
tools=(bash curl dhclient:isc-dhcp-client dig:bind9-dnsutils ec2metadata:cloud-guest-utils hostname ip:iproute2 iperf3
  nc:netcat-openbsd nft:nftables ntpdig:ntpsec-ntpdig openssl ping:iputils-ping python3 socat sysctl:procps
  /lib/systemd/systemd-networkd:systemd tcpdump tinyproxy:tinyproxy-bin tracepath:iputils-tracepath traceroute udhcpc)

need_tools() {
  # An ordinary user's may lack these, the instances' doesn't.
  local missing=() tool PATH=$PATH:/usr/sbin:/sbin
  for tool in "${tools[@]}"; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
  done
  # Another netcat lacks -N.
  if ! nc -h 2>&1 | grep -q OpenBSD; then
    missing+=(netcat-openbsd)
  fi
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  if [ "${#missing[@]}" -eq 0 ]; then
    return
  fi
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "missing: ${missing[*]}; install them with: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
}

need_cargo() {
  if ! command -v cargo >/dev/null; then
    echo "missing: a Rust toolchain (cargo) of version 1.89 or newer; see https://rustup.rs" >&2
    exit 1
  fi
}
