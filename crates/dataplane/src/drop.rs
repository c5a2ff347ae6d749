//! Why packets are dropped. Everything on this list is silent on the wire, as on AWS.

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    ///
    NoRoute,
    ///
    Blackhole,
    /// SG-1.
    SecurityGroup,
    /// NACL-2.
    NetworkAcl,
    /// SDC-1.
    SourceCheck,
    /// SDC-2.
    DestinationCheck,
    /// Nobody is behind the interface.
    NotInService,
    /// The same for a load balancer, on AWS somebody.
    LoadBalancer,
    ///
    SourceMac,
    ///
    DestinationMac,
    ///
    NotUnicast,
    ///
    NotIp,
    ///
    Ipv6,
    ///
    ArpUnanswered,
    ///
    ArpAnnouncement,
    /// A local route to an address that nobody has.
    NoSuchAddress,
    ///
    RouterAddress,
    /// DNS-2, of all services of a subnet together.
    ServiceAllowance,
    /// DNS-5.
    NoDnsSupport,
    /// A service of the subnet's doesn't understand it.
    ServiceNonsense,
    /// NAT-21.
    NatNoSession,
    /// NAT-8.
    NatProtocol,
    /// NAT-16.
    NatFragment,
    /// NAT-12.
    NatPortAllocation,
    /// NAT-22, NAT-24.
    RouteLoop,
    /// A TTL that ran out where no answer may be sent (RFC 1122 §3.2.2: no errors about errors).
    TtlExpired,
    /// The same for a packet that is too large and may not be cut.
    TooLarge,
    ///
    Fragment,
    /// IGW-15, IGW-18.
    PrivateDestination,
    /// IGW-15, of RFC 6598's addresses.
    SharedDestination,
    /// IGW-3.
    NoPublicAddress,
    ///
    Redirected,
    /// IGW-15.
    PrivateSource,
    /// IGW-15, of RFC 6598's addresses.
    SharedSource,
    /// IGW-15.
    Spoofed,
    /// IGW-5, R-40a.
    NoSuchPublicAddress,
    ///
    MiddleboxWithoutPublicAddress,
    /// Nobody on the lab's internet.
    NoSuchHost,
    /// To a customer's router itself, and no echo request.
    CustomerRouter,
    /// VPN-1: not sent by an interface of the VPC.
    VpnSource,
    /// VPN-1: for no interface of the VPC.
    VpnDestination,
    /// VPN-1.
    VpnNoRoute,
    /// VPN-4.
    VpnTooLarge,
    /// SG-20.
    ConnectionsExhausted,
    /// A table that the whole lab shares; AWS has none.
    TableFull,
    /// Three walks in a row met another worker's change.
    Contended,
    /// The frame failed a check of [`minivpc_packet::parse`].
    Malformed(minivpc_packet::Malformed),
}

impl DropReason {
    /// Reachability Analyzer's explanation code where AWS has one for it, else ours.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE_TO_DESTINATION",
            Self::Blackhole => "BAD_STATE_ROUTE",
            Self::SecurityGroup => "ENI_SG_RULES_MISMATCH",
            Self::NetworkAcl => "SUBNET_ACL_RESTRICTION",
            Self::SourceCheck | Self::DestinationCheck => "ENI_SOURCE_DEST_CHECK_RESTRICTION",
            Self::NotInService => "BAD_STATE",
            Self::LoadBalancer => "MINIVPC_LOAD_BALANCER",
            Self::SourceMac => "MINIVPC_SOURCE_MAC",
            Self::DestinationMac => "MINIVPC_DESTINATION_MAC",
            Self::NotUnicast => "MINIVPC_NOT_UNICAST",
            Self::NotIp => "MINIVPC_NOT_IP",
            Self::Ipv6 => "MINIVPC_IPV6",
            Self::ArpUnanswered => "MINIVPC_ARP_UNANSWERED",
            Self::ArpAnnouncement => "MINIVPC_ARP_ANNOUNCEMENT",
            Self::NoSuchAddress => "NO_POSSIBLE_DESTINATION",
            Self::RouterAddress => "MINIVPC_ROUTER_ADDRESS",
            Self::ServiceAllowance => "MINIVPC_LINKLOCAL_ALLOWANCE_EXCEEDED",
            Self::NoDnsSupport => "MINIVPC_NO_DNS_SUPPORT",
            Self::ServiceNonsense => "MINIVPC_SERVICE_NONSENSE",
            Self::NatNoSession => "MINIVPC_NAT_NO_SESSION",
            Self::NatProtocol => "PROTOCOL_RESTRICTION",
            Self::NatFragment => "MINIVPC_NAT_FRAGMENT",
            Self::NatPortAllocation => "MINIVPC_NAT_PORT_ALLOCATION",
            Self::RouteLoop => "MINIVPC_ROUTE_LOOP",
            Self::TtlExpired => "MINIVPC_TTL_EXPIRED",
            Self::TooLarge => "MINIVPC_TOO_LARGE",
            Self::Fragment => "MINIVPC_FRAGMENT",
            Self::PrivateDestination => "IGW_DESTINATION_ADDRESS_NOT_IN_RFC1918_EGRESS",
            Self::SharedDestination => "IGW_DESTINATION_ADDRESS_NOT_IN_RFC6598_EGRESS",
            Self::NoPublicAddress => "IGW_PUBLIC_IP_ASSOCIATION_FOR_EGRESS",
            Self::Redirected => "INGRESS_RTB_TRAFFIC_REDIRECTION",
            Self::PrivateSource => "IGW_SOURCE_ADDRESS_NOT_IN_RFC1918_INGRESS",
            Self::SharedSource => "IGW_SOURCE_ADDRESS_NOT_IN_RFC6598_INGRESS",
            Self::Spoofed => "GATEWAY_REJECTS_SPOOFED_TRAFFIC",
            Self::NoSuchPublicAddress => "IGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS",
            Self::MiddleboxWithoutPublicAddress => "INGRESS_RTB_NO_PUBLIC_IP",
            Self::NoSuchHost => "MINIVPC_NO_SUCH_HOST",
            Self::CustomerRouter => "MINIVPC_CUSTOMER_ROUTER",
            Self::VpnSource => "VGW_PRIVATE_IP_ASSOCIATION_FOR_EGRESS",
            Self::VpnDestination => "VGW_PRIVATE_IP_ASSOCIATION_FOR_INGRESS",
            Self::VpnNoRoute => "MINIVPC_VPN_NO_ROUTE",
            Self::VpnTooLarge => "MINIVPC_VPN_TOO_LARGE",
            Self::ConnectionsExhausted => "MINIVPC_CONNTRACK_ALLOWANCE_EXCEEDED",
            Self::TableFull => "MINIVPC_TABLE_FULL",
            Self::Contended => "MINIVPC_CONTENDED",
            Self::Malformed(_) => "MINIVPC_MALFORMED",
        }
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NoRoute => "the route table has no route for this destination",
            Self::Blackhole => "the route's target is gone; packets don't fall through to a wider route",
            Self::SecurityGroup => {
                "no rule of the interface's security groups allows it, and it answers no allowed packet"
            }
            Self::NetworkAcl => "the network ACL denies it",
            Self::SourceCheck => "source/destination check: the source address isn't this interface's",
            Self::DestinationCheck => "source/destination check: the destination address isn't this interface's",
            Self::NotInService => "the interface's instance is stopped, or it is attached to none",
            Self::LoadBalancer => "load balancers aren't built yet: nobody answers behind this interface",
            Self::SourceMac => "the source MAC address isn't this interface's",
            Self::DestinationMac => "no interface of the subnet has this destination MAC address",
            Self::NotUnicast => "a VPC carries no broadcast and no multicast",
            Self::NotIp => "a VPC carries IP and ARP only",
            Self::Ipv6 => "IPv6 isn't built yet",
            Self::ArpUnanswered => "ARP asked for an address that nobody on this subnet has",
            Self::ArpAnnouncement => "ARP announcements change nothing in a VPC",
            Self::NoSuchAddress => "nobody in the VPC has this address",
            Self::RouterAddress => "a subnet's router answers echo requests of its own subnet, and nothing else",
            Self::ServiceAllowance => "the interface asks services of its subnet more than 1024 times a second",
            Self::NoDnsSupport => "the VPC's enableDnsSupport is off: its resolver answers nobody",
            Self::ServiceNonsense => "the service doesn't understand the question",
            Self::NatNoSession => "the NAT gateway has no session for it: it answers nothing and admits only replies",
            Self::NatProtocol => "a NAT gateway translates TCP, UDP and ICMP only",
            Self::NatFragment => "a NAT gateway carries no fragments but those of UDP",
            Self::NatPortAllocation => "the NAT gateway has no free port for this destination",
            Self::RouteLoop => "the packet came back to the NAT gateway that had sent it",
            Self::TtlExpired => "the TTL ran out, and an ICMP error or a later fragment is not answered",
            Self::TooLarge => "too large, and can be neither cut nor answered",
            Self::Fragment => "a later fragment of a datagram whose first fragment did not pass",
            Self::PrivateDestination => "an internet gateway forwards nothing to private addresses (RFC 1918)",
            Self::SharedDestination => "an internet gateway forwards nothing to shared addresses (RFC 6598)",
            Self::NoPublicAddress => "no public address stands for the source: an internet gateway masquerades nobody",
            Self::Redirected => {
                "the gateway's route table leads this subnet's packets to a middlebox, so their answers must pass it too"
            }
            Self::PrivateSource => "nothing comes from the internet with a private address (RFC 1918)",
            Self::SharedSource => "nothing comes from the internet with a shared address (RFC 6598)",
            Self::Spoofed => "the source is an address of this side of the gateway",
            Self::NoSuchPublicAddress => "this public address stands for no interface",
            Self::MiddleboxWithoutPublicAddress => {
                "what the gateway's route table leads to needs a public address of its own"
            }
            Self::NoSuchHost => {
                "nobody on the lab's internet has this address; from a customer's site, nobody in the site or its VPC"
            }
            Self::CustomerRouter => "a customer's router answers echo requests, and nothing else",
            Self::VpnSource => "the source is no address of an attached interface of the VPC",
            Self::VpnDestination => "the destination is no address of an attached interface of the VPC",
            Self::VpnNoRoute => "no VPN connection of the gateway has a route for this destination",
            Self::VpnTooLarge => {
                "larger than the 1446 bytes that a VPN tunnel carries, and with the DF bit; AWS tells nobody"
            }
            Self::ConnectionsExhausted => "the interface tracks as many connections as it may",
            Self::TableFull => "the lab's table of connections, sessions or fragments is full; AWS has no such limit",
            Self::Contended => "other workers changed the same connection three times",
            Self::Malformed(check) => match check {
                minivpc_packet::Malformed::Short => "the frame is shorter than its headers",
                minivpc_packet::Malformed::Ipv4Header => "the IPv4 header contradicts itself or the frame's length",
                minivpc_packet::Malformed::Ipv4Checksum => "the IPv4 header's checksum is wrong",
                minivpc_packet::Malformed::L4Header => "the TCP or UDP header contradicts the packet's length",
                minivpc_packet::Malformed::Quote => "the ICMP error doesn't quote a packet",
                minivpc_packet::Malformed::ChecksumOffset => "the virtio-net header's checksum offsets don't fit",
                minivpc_packet::Malformed::Segmentation => "the virtio-net header's segmentation doesn't fit",
            },
        }
    }
}
