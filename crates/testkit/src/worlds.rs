//! Worlds to test in.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use minivpc_model::*;

/// Builds a world by operations that must all be accepted.
#[derive(Debug, Default)]
pub struct Builder {
    /// What was built.
    pub world: World,
    seed: u64,
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

impl Builder {
    fn seed(&mut self) -> u64 {
        self.seed += 1;
        self.seed
    }

    /// Applies an operation.
    pub fn apply(&mut self, op: Op) {
        self.world.apply(op).unwrap();
    }

    /// A VPC.
    pub fn vpc(&mut self, name: &str, cidr: &str) -> VpcId {
        let id = VpcId::from_seed(self.seed());
        let request = CreateVpc {
            id,
            cidr: net(cidr),
            region: "ap-northeast-3".to_owned(),
            main_route_table: RouteTableId::from_seed(self.seed()),
            default_network_acl: NetworkAclId::from_seed(self.seed()),
            default_security_group: SecurityGroupId::from_seed(self.seed()),
            tags: Tags::named(name),
            origin: Origin::default(),
        };
        self.apply(Op::CreateVpc(request));
        id
    }

    /// An internet gateway of a VPC.
    pub fn internet_gateway(&mut self, vpc: VpcId) -> InternetGatewayId {
        let id = InternetGatewayId::from_seed(self.seed());
        let (tags, origin) = (Tags::named("igw"), Origin::default());
        let (route_table, passes_asymmetric_return) = (None, false);
        let gateway = InternetGateway { id, vpc, route_table, passes_asymmetric_return, tags, origin };
        self.apply(Op::AttachInternetGateway(gateway));
        id
    }

    /// A subnet with the main route table.
    pub fn subnet(&mut self, vpc: VpcId, name: &str, cidr: &str) -> SubnetId {
        let id = SubnetId::from_seed(self.seed());
        let request = CreateSubnet {
            id,
            vpc,
            cidr: net(cidr),
            availability_zone: "ap-northeast-3a".to_owned(),
            tags: Tags::named(name),
            origin: Origin::default(),
        };
        self.apply(Op::CreateSubnet(request));
        id
    }

    /// A route table for a subnet.
    pub fn route_table(&mut self, vpc: VpcId, subnet: SubnetId) -> RouteTableId {
        let id = RouteTableId::from_seed(self.seed());
        self.apply(Op::CreateRouteTable { id, vpc, tags: Tags::default(), origin: Origin::default() });
        self.apply(Op::AssociateRouteTable { route_table: id, subnet });
        id
    }

    /// A route table for what enters by an internet gateway.
    pub fn gateway_route_table(&mut self, vpc: VpcId, gateway: GatewayId) -> RouteTableId {
        let id = RouteTableId::from_seed(self.seed());
        self.apply(Op::CreateRouteTable { id, vpc, tags: Tags::default(), origin: Origin::default() });
        self.apply(Op::AssociateGatewayRouteTable { route_table: id, gateway });
        id
    }

    /// A route.
    pub fn route(&mut self, route_table: RouteTableId, destination: &str, target: RouteTarget) {
        let destination = IpNet::V4(net(destination));
        self.apply(Op::CreateRoute { route_table, destination, target, origin: Origin::default() });
    }

    /// A security group that lets these in, and everything out.
    pub fn group(&mut self, vpc: VpcId, name: &str, ingress: &[(Traffic, Peer)]) -> SecurityGroupId {
        let id = SecurityGroupId::from_seed(self.seed());
        let (name, description) = (name.to_owned(), name.to_owned());
        let (tags, origin) = (Tags::default(), Origin::default());
        self.apply(Op::CreateSecurityGroup { id, vpc, name, description, tags, origin });
        for admitted in ingress {
            self.ingress(id, *admitted);
        }
        id
    }

    /// Lets more in by a group.
    pub fn ingress(&mut self, group: SecurityGroupId, (traffic, peer): (Traffic, Peer)) {
        self.apply(Op::AuthorizeSecurityGroupIngress { group, rule: rule(traffic, peer) });
    }

    /// Takes a group's egress rules, and gives it these.
    pub fn egress(&mut self, group: SecurityGroupId, egress: &[(Traffic, Peer)]) {
        let (all, everybody) = default_egress();
        self.apply(Op::RevokeSecurityGroupEgress { group, traffic: all, peer: everybody });
        for (traffic, peer) in egress {
            self.apply(Op::AuthorizeSecurityGroupEgress { group, rule: rule(*traffic, *peer) });
        }
    }

    /// A network ACL for a subnet: entries are (egress, number, action, traffic, block).
    pub fn acl(&mut self, vpc: VpcId, subnet: SubnetId, entries: &[(bool, u16, RuleAction, Traffic, &str)]) {
        let id = NetworkAclId::from_seed(self.seed());
        self.apply(Op::CreateNetworkAcl { id, vpc, tags: Tags::default(), origin: Origin::default() });
        for (egress, rule_number, action, traffic, cidr) in entries {
            let cidr = IpNet::V4(net(cidr));
            let entry = NetworkAclEntry { action: *action, traffic: *traffic, cidr, origin: Origin::default() };
            self.apply(Op::CreateNetworkAclEntry {
                network_acl: id,
                egress: *egress,
                rule_number: *rule_number,
                entry,
            });
        }
        self.apply(Op::ReplaceNetworkAclAssociation { network_acl: id, subnet });
    }

    /// A private NAT gateway.
    pub fn nat_gateway(&mut self, subnet: SubnetId, name: &str, ip: &str) -> NatGatewayId {
        self.nat_gateway_of_kind(subnet, name, ip, Connectivity::Private)
    }

    /// A NAT gateway.
    pub fn nat_gateway_of_kind(
        &mut self,
        subnet: SubnetId,
        name: &str,
        ip: &str,
        connectivity: Connectivity,
    ) -> NatGatewayId {
        let id = NatGatewayId::from_seed(self.seed());
        let request = CreateNatGateway {
            id,
            subnet,
            connectivity,
            private_ip: Some(ip.parse().unwrap()),
            secondary_private_ips: Vec::new(),
            network_interface: NetworkInterfaceId::from_seed(self.seed()),
            mac: MacAddress::from_seed(self.seed()),
            create_time: "2021-09-25T10:50:53Z".to_owned(),
            tags: Tags::named(name),
            origin: Origin::default(),
        };
        self.apply(Op::CreateNatGateway(request));
        id
    }

    /// An Elastic IP address.
    pub fn elastic_ip(&mut self, address: &str) -> AllocationId {
        let id = AllocationId::from_seed(self.seed());
        let public_ip = address.parse::<Ipv4Addr>().unwrap();
        self.apply(Op::AllocateAddress { id, public_ip, tags: Tags::default(), origin: Origin::default() });
        id
    }

    /// An Elastic IP address for an interface's primary address.
    pub fn public(&mut self, network_interface: NetworkInterfaceId, address: &str) -> AllocationId {
        let allocation = self.elastic_ip(address);
        let (private_ip, allow_reassociation) = (None, false);
        self.apply(Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation });
        allocation
    }

    /// A private hosted zone of these VPCs with records, each by its whole name.
    pub fn hosted_zone(&mut self, vpcs: &[VpcId], name: &str, records: &[(&str, RecordType, &[&str])]) -> HostedZoneId {
        let (id, tags, origin) = (HostedZoneId::from_seed(self.seed()), Tags::named(name), Origin::default());
        self.apply(Op::CreateHostedZone(CreateHostedZone { id, name: name.to_owned(), vpc: vpcs[0], tags, origin }));
        vpcs[1..].iter().for_each(|vpc| self.apply(Op::AssociateVpcWithHostedZone { zone: id, vpc: *vpc }));
        for (name, kind, values) in records {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            let change = RecordChange::Create(ResourceRecordSet { ttl: 60, values, origin });
            let (name, kind) = ((*name).to_owned(), *kind);
            self.apply(Op::ChangeResourceRecordSets { zone: id, name, kind, change });
        }
        id
    }

    /// A host of the internet.
    pub fn host(&mut self, name: &str, address: &str) -> HostId {
        self.host_in(None, name, address)
    }

    /// A host on the internet, or in a site.
    pub fn host_in(&mut self, site: Option<VpnConnectionId>, name: &str, address: &str) -> HostId {
        let id = HostId::from_seed(self.seed());
        let (name, address) = (name.to_owned(), address.parse().unwrap());
        let (mac, origin) = (MacAddress::from_seed(self.seed()), Origin::default());
        self.apply(Op::CreateHost(CreateHost { id, name, site, address, mac, serve: Vec::new(), origin }));
        id
    }

    /// A virtual private gateway.
    pub fn vpn_gateway(&mut self, vpc: VpcId, name: &str) -> VpnGatewayId {
        let id = VpnGatewayId::from_seed(self.seed());
        let (tags, origin) = (Tags::named(name), Origin::default());
        self.apply(Op::AttachVpnGateway(VpnGateway { id, vpc, route_table: None, tags, origin }));
        id
    }

    /// A site with these blocks, whose router has the first address of the first.
    pub fn site(&mut self, vpn_gateway: VpnGatewayId, name: &str, blocks: &[&str]) -> VpnConnectionId {
        let id = VpnConnectionId::from_seed(self.seed());
        let static_routes: Vec<_> = blocks.iter().map(|block| net(block)).collect();
        let router = static_routes[0].hosts().next().unwrap();
        let (tags, origin) = (Tags::named(name), Origin::default());
        self.apply(Op::CreateVpnConnection(VpnConnection { id, vpn_gateway, static_routes, router, tags, origin }));
        id
    }

    /// An instance; without groups it has the VPC's default one. Its interface.
    pub fn instance(
        &mut self,
        subnet: SubnetId,
        name: &str,
        ip: &str,
        groups: &[SecurityGroupId],
        source_dest_check: bool,
    ) -> NetworkInterfaceId {
        let interface = NewInterface {
            groups: groups.to_vec(),
            source_dest_check,
            tags: Tags::default(),
            ..self.new_interface(subnet, name, ip)
        };
        let id = interface.id;
        let request = RunInstance {
            id: InstanceId::from_seed(self.seed()),
            interfaces: BTreeMap::from([(0, interface)]),
            associate_public_ip: false,
            image: Image::AmazonLinux2,
            metadata_options: Image::AmazonLinux2.metadata_options(),
            user_data: None,
            launch_time: "2021-09-25T10:50:53Z".to_owned(),
            tags: Tags::named(name),
            origin: Origin::default(),
        };
        self.apply(Op::RunInstance(request));
        id
    }

    /// An interface that is nobody's yet.
    pub fn network_interface(&mut self, subnet: SubnetId, name: &str, ip: &str) -> NetworkInterfaceId {
        let interface = self.new_interface(subnet, name, ip);
        let id = interface.id;
        self.apply(Op::CreateNetworkInterface { interface, load_balancer: None });
        id
    }

    /// An interface of a load balancer.
    pub fn load_balancer(
        &mut self,
        subnet: SubnetId,
        name: &str,
        ip: &str,
        load_balancer: LoadBalancer,
    ) -> NetworkInterfaceId {
        let interface = self.new_interface(subnet, name, ip);
        let id = interface.id;
        self.apply(Op::CreateNetworkInterface { interface, load_balancer: Some(load_balancer) });
        id
    }

    fn new_interface(&mut self, subnet: SubnetId, name: &str, ip: &str) -> NewInterface {
        NewInterface {
            id: NetworkInterfaceId::from_seed(self.seed()),
            subnet,
            private_ip: Some(ip.parse().unwrap()),
            secondary_private_ips: Vec::new(),
            mac: MacAddress::from_seed(self.seed()),
            groups: Vec::new(),
            source_dest_check: true,
            tags: Tags::named(name),
            origin: Origin::default(),
        }
    }
}

fn rule(traffic: Traffic, peer: Peer) -> SecurityGroupRule {
    SecurityGroupRule { traffic, peer, description: String::new(), origin: Origin::default() }
}

/// The world of the NAT gateway article.
#[derive(Debug)]
pub struct Article {
    /// All of it.
    pub builder: Builder,
    /// Its VPC, 10.0.0.0/16.
    pub vpc: VpcId,
    /// Subnet of `source`, 10.0.0.11.
    pub source: SubnetId,
    /// Subnet of `destination`, 10.0.1.55.
    pub destination: SubnetId,
    /// Subnet of the NAT gateway, 10.0.2.149.
    pub nat: SubnetId,
}

/// Builds the article's world; `admitted` is what the destination's group lets in.
#[must_use]
pub fn article(admitted: &str) -> Article {
    let mut b = Builder::default();
    let vpc = b.vpc("osaka", "10.0.0.0/16");
    let igw = b.internet_gateway(vpc);
    let source = b.subnet(vpc, "source", "10.0.0.0/24");
    let destination = b.subnet(vpc, "destination", "10.0.1.0/24");
    let nat = b.subnet(vpc, "nat", "10.0.2.0/24");
    let gateway = b.nat_gateway(nat, "osaka-NAT", "10.0.2.149");
    let table = b.route_table(vpc, source);
    b.route(table, "10.0.1.0/24", RouteTarget::NatGateway(gateway));
    b.route(table, "0.0.0.0/0", RouteTarget::InternetGateway(igw));
    let table = b.route_table(vpc, destination);
    b.route(table, "0.0.0.0/0", RouteTarget::InternetGateway(igw));
    b.route_table(vpc, nat);
    let all = |cidr: &str| [(Traffic::All, Peer::Cidr(IpNet::V4(net(cidr))))];
    let group = b.group(vpc, "source", &all("10.0.0.0/16"));
    b.instance(source, "source", "10.0.0.11", &[group], true);
    let group = b.group(vpc, "destination", &all(admitted));
    b.instance(destination, "destination", "10.0.1.55", &[group], true);
    Article { builder: b, vpc, source, destination, nat }
}

/// A world with one of everything that a packet can meet, for conversations that nobody has thought of. Its guests in
/// the order of their ports: `client`, `neighbour`, `server`, `appliance`, `deep`, and `twin` of another VPC, which has
/// the client's address and no internet gateway; then hosts of the internet: `example`, `stranger`.
#[must_use]
pub fn everything() -> World {
    let mut b = Builder::default();
    let vpc = b.vpc("main", "10.0.0.0/16");
    let igw = b.internet_gateway(vpc);
    let near = b.subnet(vpc, "near", "10.0.0.0/24");
    let far = b.subnet(vpc, "far", "10.0.1.0/24");
    let middle = b.subnet(vpc, "middle", "10.0.2.0/24");
    let deep = b.subnet(vpc, "deep", "10.0.3.0/24");
    let second = b.subnet(vpc, "second", "10.0.4.0/24");
    let from = |cidr: &str| (Traffic::All, Peer::Cidr(IpNet::V4(net(cidr))));
    let inside = b.group(vpc, "inside", &[from("10.0.0.0/16")]);
    let open = b.group(vpc, "open", &[from("0.0.0.0/0")]);
    let named = b.group(vpc, "named", &[(Traffic::All, Peer::SecurityGroup(inside))]);
    b.egress(named, &[(Traffic::Tcp(PortRange { from: 1, to: 1023 }), Peer::SecurityGroup(inside))]);
    let client = b.instance(near, "client", "10.0.0.10", &[inside, open], true);
    b.instance(near, "neighbour", "10.0.0.11", &[named], true);
    b.instance(far, "server", "10.0.1.10", &[inside], true);
    let appliance_eni = b.instance(middle, "appliance", "10.0.2.10", &[open], false);
    let appliance = RouteTarget::NetworkInterface(appliance_eni);
    let deep_eni = b.instance(deep, "deep", "10.0.3.10", &[named, open], true);
    for (eni, address) in [(client, "203.0.113.10"), (appliance_eni, "203.0.113.11"), (deep_eni, "203.0.113.12")] {
        b.public(eni, address);
    }
    let first = RouteTarget::NatGateway(b.nat_gateway(middle, "first", "10.0.2.200"));
    let last = RouteTarget::NatGateway(b.nat_gateway(second, "last", "10.0.4.200"));
    let connectivity = Connectivity::Public(vec![b.elastic_ip("203.0.113.31")]);
    let outside = RouteTarget::NatGateway(b.nat_gateway_of_kind(middle, "outside", "10.0.2.201", connectivity));
    // What the internet has for `deep` passes the appliance.
    let edge = b.gateway_route_table(vpc, GatewayId::Internet(igw));
    b.route(edge, "10.0.3.0/24", appliance);
    b.host("example", "93.184.216.34");
    b.host("stranger", "192.0.2.66");
    let routes = [
        // The client's packets for `deep` pass both gateways, what the server sends to the client the appliance.
        (near, "10.0.1.0/24", first),
        (near, "10.0.3.0/24", first),
        (near, "0.0.0.0/0", RouteTarget::InternetGateway(igw)),
        (middle, "10.0.3.0/24", last),
        (middle, "0.0.0.0/0", RouteTarget::InternetGateway(igw)),
        (far, "10.0.0.0/24", appliance),
        (far, "0.0.0.0/0", outside),
        (deep, "0.0.0.0/0", appliance),
        (second, "0.0.0.0/0", appliance),
    ];
    for subnet in [near, middle, far, deep, second] {
        let table = b.route_table(vpc, subnet);
        for (_, destination, target) in routes.iter().filter(|(from, ..)| *from == subnet) {
            b.route(table, destination, *target);
        }
    }
    let (allow, deny) = (RuleAction::Allow, RuleAction::Deny);
    let all_icmp = Traffic::Icmp { kind: None, code: None };
    let entries = [
        (false, 90, deny, Traffic::Udp(PortRange { from: 53, to: 53 }), "10.0.0.0/16"),
        (false, 100, allow, Traffic::All, "10.0.0.0/8"),
        (false, 110, allow, Traffic::All, "93.184.216.0/24"),
        (true, 100, allow, all_icmp, "0.0.0.0/0"),
        (true, 110, allow, Traffic::Udp(PortRange::ALL), "0.0.0.0/0"),
        (true, 120, allow, Traffic::Tcp(PortRange { from: 1024, to: u16::MAX }), "10.0.0.0/16"),
    ];
    b.acl(vpc, far, &entries);
    let other = b.vpc("other", "10.0.0.0/16");
    let subnet = b.subnet(other, "near", "10.0.0.0/24");
    b.instance(subnet, "twin", "10.0.0.10", &[], true);
    b.apply(Op::ModifyVpcAttribute { vpc, attribute: VpcAttribute::DnsHostnames, value: true });
    let records: [(&str, RecordType, &[&str]); 4] = [
        ("app.corp.example", RecordType::A, &["10.0.0.10", "10.0.0.11"]),
        ("www.corp.example", RecordType::Cname, &["app.corp.example"]),
        ("round.corp.example", RecordType::Cname, &["round.corp.example"]),
        ("*.dev.corp.example", RecordType::Txt, &["\"any\""]),
    ];
    b.hosted_zone(&[vpc], "corp.example", &records);
    // A site, of which the appliance sees what is for `deep`.
    let vgw = b.vpn_gateway(vpc, "vgw");
    let office = b.site(vgw, "office", &["192.168.0.0/24", "10.0.0.0/24"]);
    b.host_in(Some(office), "pc", "192.168.0.9");
    for subnet in [near, middle, far] {
        let route_table = b.world.subnet(subnet).unwrap().route_table.unwrap();
        b.apply(Op::EnableVgwRoutePropagation { route_table, gateway: vgw });
    }
    let inbound = b.gateway_route_table(vpc, GatewayId::Vpn(vgw));
    b.route(inbound, "10.0.3.0/24", appliance);
    b.world
}
