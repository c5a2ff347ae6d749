//! What AWS makes by itself, allows and refuses, by the ids of its behaviours.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use minivpc_model::*;
use minivpc_testkit::Builder;

const EVERYBODY: &str = "0.0.0.0/0";

/// A VPC of 10.0.0.0/16 with a subnet of 10.0.0.0/24.
struct Small {
    builder: Builder,
    vpc: VpcId,
    subnet: SubnetId,
}

fn small() -> Small {
    let mut builder = Builder::default();
    let vpc = builder.vpc("vpc", "10.0.0.0/16");
    let subnet = builder.subnet(vpc, "subnet", "10.0.0.0/24");
    Small { builder, vpc, subnet }
}

impl Small {
    fn refusal(&self, op: Op) -> Refusal {
        self.builder.world.clone().apply(op).expect_err("refused")
    }

    fn accepts(&self, op: Op) {
        self.builder.world.clone().apply(op).unwrap();
    }

    fn network_acl(&self) -> &NetworkAcl {
        let world = &self.builder.world;
        world.network_acl(world.subnet(self.subnet).unwrap().network_acl).unwrap()
    }
}

fn create_vpc(cidr: &str) -> Op {
    Op::CreateVpc(CreateVpc {
        id: VpcId::from_seed(1000),
        cidr: cidr.parse().unwrap(),
        region: "ap-northeast-3".to_owned(),
        main_route_table: RouteTableId::from_seed(1000),
        default_network_acl: NetworkAclId::from_seed(1000),
        default_security_group: SecurityGroupId::from_seed(1000),
        tags: Tags::default(),
        origin: Origin::default(),
    })
}

fn create_subnet(vpc: VpcId, cidr: &str) -> Op {
    Op::CreateSubnet(CreateSubnet {
        id: SubnetId::from_seed(1000),
        vpc,
        cidr: cidr.parse().unwrap(),
        availability_zone: "ap-northeast-3a".to_owned(),
        tags: Tags::default(),
        origin: Origin::default(),
    })
}

fn run_instance(subnet: SubnetId, private_ip: Option<Ipv4Addr>) -> Op {
    let interface = NewInterface {
        id: NetworkInterfaceId::from_seed(1000),
        subnet,
        private_ip,
        secondary_private_ips: Vec::new(),
        mac: MacAddress::from_seed(1000),
        groups: Vec::new(),
        source_dest_check: true,
        tags: Tags::default(),
        origin: Origin::default(),
    };
    Op::RunInstance(RunInstance {
        id: InstanceId::from_seed(1000),
        interfaces: BTreeMap::from([(0, interface)]),
        associate_public_ip: false,
        image: Image::AmazonLinux2,
        metadata_options: Image::AmazonLinux2.metadata_options(),
        user_data: None,
        launch_time: "2026-01-01T00:00:00Z".to_owned(),
        tags: Tags::default(),
        origin: Origin::default(),
    })
}

fn create_nat_gateway(subnet: SubnetId, connectivity: Connectivity) -> Op {
    Op::CreateNatGateway(CreateNatGateway {
        id: NatGatewayId::from_seed(1000),
        subnet,
        connectivity,
        private_ip: None,
        secondary_private_ips: Vec::new(),
        network_interface: NetworkInterfaceId::from_seed(1000),
        mac: MacAddress::from_seed(1000),
        create_time: "2026-01-01T00:00:00Z".to_owned(),
        tags: Tags::default(),
        origin: Origin::default(),
    })
}

fn create_route(route_table: RouteTableId, destination: &str, target: RouteTarget) -> Op {
    Op::CreateRoute { route_table, destination: destination.parse().unwrap(), target, origin: Origin::default() }
}

fn create_entry(network_acl: NetworkAclId, rule_number: u16, cidr: &str) -> Op {
    let (action, traffic) = (RuleAction::Allow, Traffic::All);
    let entry = NetworkAclEntry { action, traffic, cidr: cidr.parse().unwrap(), origin: Origin::default() };
    Op::CreateNetworkAclEntry { network_acl, egress: false, rule_number, entry }
}

fn rules(rules: &[SecurityGroupRule]) -> Vec<(Traffic, Peer)> {
    rules.iter().map(|rule| (rule.traffic, rule.peer)).collect()
}

fn all_to_everybody() -> (Traffic, Peer) {
    (Traffic::All, Peer::Cidr(EVERYBODY.parse().unwrap()))
}

#[test]
fn r_1_blocks_are_16_to_28_and_subnets_do_not_overlap() {
    let small = small();
    for cidr in ["10.0.0.0/15", "10.0.0.0/29"] {
        assert_eq!(small.refusal(create_vpc(cidr)).code, ErrorCode::InvalidVpcRange, "{cidr}");
        assert_eq!(small.refusal(create_subnet(small.vpc, cidr)).code, ErrorCode::InvalidSubnetRange, "{cidr}");
    }
    small.accepts(create_vpc("10.0.0.0/16"));
    small.accepts(create_vpc("10.0.0.0/28"));
    small.accepts(create_subnet(small.vpc, "10.0.1.0/28"));
    for cidr in ["10.0.0.0/16", "10.0.0.0/24", "10.0.0.128/25"] {
        assert_eq!(small.refusal(create_subnet(small.vpc, cidr)).code, ErrorCode::InvalidSubnetConflict, "{cidr}");
    }
    assert_eq!(small.refusal(create_subnet(small.vpc, "10.1.0.0/24")).code, ErrorCode::InvalidSubnetRange);
}

#[test]
fn r_2_five_addresses_of_a_subnet_are_nobodys() {
    let mut small = small();
    let address = |last| Some(Ipv4Addr::new(10, 0, 0, last));
    for last in [0, 1, 2, 3, 255] {
        let refusal = small.refusal(run_instance(small.subnet, address(last)));
        assert_eq!(refusal.code, ErrorCode::InvalidParameterValue, "{last}");
    }
    for last in [4, 254] {
        small.accepts(run_instance(small.subnet, address(last)));
    }
    small.builder.apply(run_instance(small.subnet, None));
    let eni = small.builder.world.network_interfaces().next().unwrap();
    assert_eq!(Some(eni.private_ip), address(4), "without a wish it is the first of the others");
}

#[test]
fn r_5_no_route_leads_into_the_link_local_services() {
    let mut small = small();
    let igw = RouteTarget::InternetGateway(small.builder.internet_gateway(small.vpc));
    let table = small.builder.route_table(small.vpc, small.subnet);
    for destination in ["169.254.168.0/22", "169.254.169.254/32"] {
        let refusal = small.refusal(create_route(table, destination, igw));
        assert_eq!(refusal.code, ErrorCode::InvalidParameterValue, "{destination}");
    }
    small.accepts(create_route(table, "169.254.0.0/16", igw));
}

#[test]
fn r_16_a_subnet_has_its_own_table_or_the_main_one_and_each_begins_with_the_local_route() {
    let mut small = small();
    let main = small.builder.world.vpc(small.vpc).unwrap().main_route_table;
    let serving = |small: &Small| {
        let world = &small.builder.world;
        world.route_table_of(world.subnet(small.subnet).unwrap()).unwrap().id
    };
    assert_eq!(serving(&small), main);
    let own = small.builder.route_table(small.vpc, small.subnet);
    assert_eq!(serving(&small), own);
    for table in small.builder.world.route_tables() {
        let routes: Vec<_> = table.routes.iter().map(|route| (route.destination.to_string(), route.target)).collect();
        assert_eq!(routes, [("10.0.0.0/16".to_owned(), RouteTarget::Local)], "{}", table.id);
    }
    let second = Op::AssociateRouteTable { route_table: main, subnet: small.subnet };
    assert_eq!(small.refusal(second).code, ErrorCode::ResourceAlreadyAssociated);
}

#[test]
fn r_24_inside_the_vpc_a_route_is_for_a_whole_subnet_and_leads_to_a_gateway_or_an_interface() {
    let mut small = small();
    let b = &mut small.builder;
    let igw = RouteTarget::InternetGateway(b.internet_gateway(small.vpc));
    let other = b.subnet(small.vpc, "other", "10.0.1.0/24");
    let appliance = RouteTarget::NetworkInterface(b.instance(other, "appliance", "10.0.1.4", &[], false));
    let nat = RouteTarget::NatGateway(b.nat_gateway(other, "nat", "10.0.1.5"));
    let table = b.route_table(small.vpc, small.subnet);
    for target in [appliance, nat] {
        small.accepts(create_route(table, "10.0.1.0/24", target));
        for part in ["10.0.1.4/32", "10.0.1.0/25", "10.0.0.0/23", "10.0.2.0/24"] {
            let text = "InvalidParameterValue: Route destination doesn't match any subnet CIDR blocks.";
            assert_eq!(small.refusal(create_route(table, part, target)).to_string(), text, "{part}");
        }
    }
    let refusal = small.refusal(create_route(table, "10.0.1.0/24", igw)).to_string();
    assert!(refusal.starts_with("InvalidParameterValue: Route target is not supported."), "{refusal}");
}

#[test]
fn sg_1_a_new_group_lets_nothing_in_and_everything_out() {
    let mut small = small();
    let id = small.builder.group(small.vpc, "new", &[]);
    let group = small.builder.world.security_group(id).unwrap();
    assert_eq!((rules(&group.ingress), rules(&group.egress)), (vec![], vec![all_to_everybody()]));
}

#[test]
fn sg_2_the_default_group_lets_itself_in_and_everything_out() {
    let mut small = small();
    let id = small.builder.world.vpc(small.vpc).unwrap().default_security_group;
    let group = small.builder.world.security_group(id).unwrap();
    let itself = (Traffic::All, Peer::SecurityGroup(id));
    assert_eq!((rules(&group.ingress), rules(&group.egress)), (vec![itself], vec![all_to_everybody()]));
    small.builder.apply(run_instance(small.subnet, None));
    assert_eq!(small.builder.world.network_interfaces().next().unwrap().groups, [id], "for who names no group");
}

#[test]
fn sg_6_a_rule_refers_to_groups_of_its_own_vpc() {
    let mut small = small();
    let group = small.builder.group(small.vpc, "group", &[]);
    let neighbour = small.builder.group(small.vpc, "neighbour", &[]);
    let other = small.builder.vpc("other", "10.0.0.0/16");
    let stranger = small.builder.group(other, "stranger", &[]);
    let admit = |peer| {
        let (traffic, peer, description) = (Traffic::All, Peer::SecurityGroup(peer), String::new());
        let rule = SecurityGroupRule { traffic, peer, description, origin: Origin::default() };
        Op::AuthorizeSecurityGroupIngress { group, rule }
    };
    small.accepts(admit(neighbour));
    assert_eq!(small.refusal(admit(stranger)).code, ErrorCode::InvalidGroupNotFound);
}

#[test]
fn nacl_1_the_default_list_allows_everything_and_a_new_one_nothing() {
    let mut small = small();
    let default = small.network_acl();
    for entries in [&default.ingress, &default.egress] {
        let entries: Vec<_> = entries.values().map(|e| (e.action, e.traffic, e.cidr.to_string())).collect();
        assert_eq!(entries, [(RuleAction::Allow, Traffic::All, EVERYBODY.to_owned())]);
    }
    small.builder.acl(small.vpc, small.subnet, &[]);
    let new = small.network_acl();
    assert!([&new.ingress, &new.egress].into_iter().all(BTreeMap::is_empty));
}

#[test]
fn nacl_2_rule_numbers_are_1_to_32766_and_each_is_there_once() {
    let mut small = small();
    let acl = small.network_acl().id;
    for number in [0, 32_767, 32_768] {
        let refusal = small.refusal(create_entry(acl, number, EVERYBODY));
        assert_eq!(refusal.code, ErrorCode::InvalidParameterValue, "{number}");
    }
    for number in [1, 32_766] {
        small.accepts(create_entry(acl, number, EVERYBODY));
    }
    small.builder.apply(create_entry(acl, 200, EVERYBODY));
    let again = small.refusal(create_entry(acl, 200, "10.0.0.0/8"));
    assert_eq!(again.code, ErrorCode::NetworkAclEntryAlreadyExists);
}

#[test]
fn nacl_3_a_block_is_cut_to_its_prefix() {
    let mut small = small();
    small.builder.apply(create_entry(small.network_acl().id, 200, "100.68.0.18/18"));
    assert_eq!(small.network_acl().ingress[&200].cidr.to_string(), "100.68.0.0/18");
}

#[test]
fn nat_1_a_public_gateway_needs_an_internet_gateway_and_an_elastic_ip_that_nobody_has() {
    let mut small = small();
    let address = small.builder.elastic_ip("203.0.113.9");
    let public = create_nat_gateway(small.subnet, Connectivity::Public(vec![address]));
    assert_eq!(small.refusal(public.clone()).code, ErrorCode::GatewayNotAttached);
    small.accepts(create_nat_gateway(small.subnet, Connectivity::Private));
    small.builder.internet_gateway(small.vpc);
    small.accepts(public.clone());
    small.builder.nat_gateway_of_kind(small.subnet, "first", "10.0.0.9", Connectivity::Public(vec![address]));
    assert_eq!(small.refusal(public).code, ErrorCode::ResourceAlreadyAssociated);
}

#[test]
fn nat_4_sg_10_a_gateway_has_an_interface_of_its_subnet_and_no_groups() {
    let mut small = small();
    small.builder.apply(create_nat_gateway(small.subnet, Connectivity::Private));
    let world = &small.builder.world;
    let nat = world.nat_gateways().next().unwrap();
    let eni = world.network_interface(nat.network_interface).unwrap();
    assert_eq!((eni.attachment, eni.subnet), (Some(Attachment::NatGateway(nat.id)), small.subnet));
    assert_eq!(eni.private_ip, Ipv4Addr::new(10, 0, 0, 4), "an address of the subnet");
    assert!(eni.groups.is_empty());
}

/// A VPC with an internet gateway, two instances and an Elastic IP address.
struct Public {
    small: Small,
    web: NetworkInterfaceId,
    other: NetworkInterfaceId,
    elastic: AllocationId,
}

fn public() -> Public {
    let mut small = small();
    small.builder.internet_gateway(small.vpc);
    let web = small.builder.instance(small.subnet, "web", "10.0.0.10", &[], true);
    let other = small.builder.instance(small.subnet, "other", "10.0.0.11", &[], true);
    let elastic = small.builder.elastic_ip("203.0.113.9");
    Public { small, web, other, elastic }
}

impl Public {
    fn associate(&self, network_interface: NetworkInterfaceId, private_ip: Option<&str>, again: bool) -> Op {
        let private_ip = private_ip.map(|ip| ip.parse().unwrap());
        Op::AssociateAddress { allocation: self.elastic, network_interface, private_ip, allow_reassociation: again }
    }

    fn world(&mut self) -> &mut World {
        &mut self.small.builder.world
    }

    fn instance_of(&self, eni: NetworkInterfaceId) -> InstanceId {
        self.small.builder.world.network_interface(eni).unwrap().instance().unwrap()
    }

    fn lent(&self) -> Option<Ipv4Addr> {
        self.small.builder.world.network_interface(self.web).unwrap().public_ip
    }
}

#[test]
fn igw_7_an_elastic_ip_stands_for_one_private_address_and_moves_if_asked_to() {
    let mut p = public();
    assert_eq!(p.small.refusal(p.associate(p.web, Some("10.0.0.77"), false)).code, ErrorCode::InvalidParameterValue);
    let op = p.associate(p.web, None, false);
    p.small.builder.apply(op);
    assert_eq!(p.small.refusal(p.associate(p.other, None, false)).code, ErrorCode::ResourceAlreadyAssociated);
    assert_eq!(p.small.refusal(Op::ReleaseAddress(p.elastic)).code, ErrorCode::InvalidIpAddressInUse);
    let op = p.associate(p.other, None, true);
    p.small.builder.apply(op);
    let held = p.world().public_addresses().map(|public| (public.network_interface, public.private_ip));
    assert_eq!(held.collect::<Vec<_>>(), [(p.other, Ipv4Addr::new(10, 0, 0, 11))]);
    // Another one for the same address takes its place.
    let second = p.small.builder.elastic_ip("203.0.113.10");
    let (network_interface, private_ip) = (p.other, None);
    let op = |allow_reassociation| Op::AssociateAddress {
        allocation: second,
        network_interface,
        private_ip,
        allow_reassociation,
    };
    assert_eq!(p.small.refusal(op(false)).code, ErrorCode::ResourceAlreadyAssociated);
    p.small.builder.apply(op(true));
    assert!(p.small.builder.world.address(p.elastic).unwrap().association.is_none());
}

#[test]
fn igw_7_an_elastic_ip_goes_with_the_secondary_address_that_it_stands_for() {
    let mut p = public();
    let addresses = vec![Ipv4Addr::new(10, 0, 0, 50)];
    let assign = |network_interface, allow_reassignment| Op::AssignPrivateIpAddresses {
        network_interface,
        addresses: addresses.clone(),
        allow_reassignment,
    };
    p.small.builder.apply(assign(p.web, false));
    let op = p.associate(p.web, Some("10.0.0.50"), false);
    p.small.builder.apply(op);
    assert_eq!(p.small.refusal(assign(p.other, false)).code, ErrorCode::InvalidIpAddressInUse);
    p.small.builder.apply(assign(p.other, true));
    let held = |world: &World| world.public_addresses().map(|public| public.network_interface).collect::<Vec<_>>();
    assert_eq!(held(p.world()), [p.other]);
    let gone = Op::UnassignPrivateIpAddresses { network_interface: p.other, addresses };
    p.small.builder.apply(gone);
    assert!(held(p.world()).is_empty());
    // A primary address is nobody else's.
    let addresses = vec![Ipv4Addr::new(10, 0, 0, 11)];
    let op = Op::AssignPrivateIpAddresses { network_interface: p.web, addresses, allow_reassignment: true };
    assert_eq!(p.small.refusal(op).code, ErrorCode::InvalidIpAddressInUse);
}

#[test]
fn igw_7_without_an_internet_gateway_there_is_nothing_to_associate() {
    let mut small = small();
    let network_interface = small.builder.instance(small.subnet, "web", "10.0.0.10", &[], true);
    let allocation = small.builder.elastic_ip("203.0.113.9");
    let (private_ip, allow_reassociation) = (None, false);
    let op = Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation };
    assert_eq!(small.refusal(op).code, ErrorCode::GatewayNotAttached);
}

#[test]
fn igw_8_a_lent_address_goes_with_a_stop_and_for_an_elastic_ip_and_comes_again_as_another() {
    let mut p = public();
    let instance = p.instance_of(p.web);
    assert_eq!(p.lent(), None);
    p.small.builder.apply(Op::ModifyAssociatePublicIp { instance, associate: true });
    let first = p.lent().expect("an address");
    p.small.builder.apply(Op::StopInstance(instance));
    assert_eq!(p.lent(), None);
    p.small.builder.apply(Op::StartInstance { instance, launch_time: "2027-01-01T00:00:00Z".to_owned() });
    assert_eq!(p.small.builder.world.instance(instance).unwrap().launch_time, "2027-01-01T00:00:00Z");
    let second = p.lent().expect("another address");
    assert_ne!(first, second);
    let op = p.associate(p.web, None, false);
    p.small.builder.apply(op);
    assert_eq!(p.lent(), None);
    p.small.builder.apply(Op::DisassociateAddress(p.elastic));
    assert!(p.lent().is_some_and(|third| third != second));
    let igw = p.world().internet_gateways().next().unwrap().id;
    assert_eq!(p.small.refusal(Op::DetachInternetGateway(igw)).code, ErrorCode::DependencyViolation);
}

#[test]
fn no_two_have_the_same_public_address() {
    let mut p = public();
    p.small.builder.host("example.com", "192.0.2.1");
    let allocate = |public_ip| Op::AllocateAddress {
        id: AllocationId::from_seed(2000),
        public_ip,
        tags: Tags::default(),
        origin: Origin::default(),
    };
    assert_eq!(p.small.refusal(allocate(Ipv4Addr::new(192, 0, 2, 1))).code, ErrorCode::InvalidIpAddressInUse);
    for nobodys in [[10, 0, 0, 1], [100, 64, 0, 1], [127, 0, 0, 1], [169, 254, 0, 1], [224, 0, 0, 1]] {
        assert_eq!(p.small.refusal(allocate(nobodys.into())).code, ErrorCode::InvalidParameterValue, "{nobodys:?}");
    }
    p.small.accepts(allocate(Ipv4Addr::new(192, 0, 2, 2)));
}

#[test]
fn r_31_r_34_a_gateways_table_is_no_main_one_and_leads_only_whole_blocks_to_interfaces() {
    let mut p = public();
    let (vpc, subnet, appliance) = (p.small.vpc, p.small.subnet, p.web);
    let gateway = p.world().internet_gateways().next().unwrap().id;
    let home = p.small.builder.subnet(vpc, "application", "10.0.1.0/24");
    let (own, main) = {
        let table = p.small.builder.route_table(vpc, home);
        p.small.builder.apply(Op::DisassociateRouteTable(home));
        (table, p.world().vpc(vpc).unwrap().main_route_table)
    };
    let associate = |route_table| Op::AssociateGatewayRouteTable { route_table, gateway: GatewayId::Internet(gateway) };
    assert_eq!(p.small.refusal(associate(main)).code, ErrorCode::InvalidParameterValue);
    let create = |destination: &str, target| Op::CreateRoute {
        route_table: own,
        destination: destination.parse().unwrap(),
        target,
        origin: Origin::default(),
    };
    // Wrong before the association, and wrong after it.
    let wrong = [
        create("0.0.0.0/0", RouteTarget::InternetGateway(gateway)),
        create("8.8.8.8/32", RouteTarget::NetworkInterface(appliance)),
        create("0.0.0.0/0", RouteTarget::NetworkInterface(appliance)),
    ];
    for op in &wrong {
        let mut world = p.small.builder.world.clone();
        world.apply(op.clone()).unwrap();
        assert_eq!(world.apply(associate(own)).unwrap_err().code, ErrorCode::InvalidParameterValue, "{op:?}");
    }
    p.small.builder.apply(associate(own));
    let nat = p.small.builder.nat_gateway(subnet, "nat", "10.0.0.200");
    for op in wrong.into_iter().chain([create("10.0.1.0/24", RouteTarget::NatGateway(nat))]) {
        assert_eq!(p.small.refusal(op.clone()).code, ErrorCode::InvalidParameterValue, "{op:?}");
    }
    p.small.accepts(create("10.0.1.0/24", RouteTarget::NetworkInterface(appliance)));
    let whole = Op::ReplaceRoute {
        route_table: own,
        destination: "10.0.0.0/16".parse().unwrap(),
        target: RouteTarget::NetworkInterface(appliance),
        origin: Origin::default(),
    };
    p.small.accepts(whole);
    assert_eq!(p.small.refusal(Op::DeleteRouteTable(own)).code, ErrorCode::DependencyViolation);
    let becomes_main = Op::ReplaceMainRouteTable { vpc, route_table: own };
    assert_eq!(p.small.refusal(becomes_main).code, ErrorCode::InvalidParameterValue);
}

#[test]
fn igw_1_a_vpc_has_one_internet_gateway() {
    let mut p = public();
    let (id, vpc) = (InternetGatewayId::from_seed(3000), p.small.vpc);
    let gateway = InternetGateway {
        id,
        vpc,
        route_table: None,
        passes_asymmetric_return: false,
        tags: Tags::default(),
        origin: Origin::default(),
    };
    assert_eq!(p.small.refusal(Op::AttachInternetGateway(gateway)).code, ErrorCode::ResourceAlreadyAssociated);
    assert!(p.world().vpc(vpc).unwrap().internet_gateway.is_some());
}

#[test]
fn fo_2_a_secondary_interface_moves_within_its_zone_and_a_primary_one_never() {
    let mut small = small();
    let b = &mut small.builder;
    let primary = b.instance(small.subnet, "one", "10.0.0.4", &[], true);
    b.instance(small.subnet, "two", "10.0.0.5", &[], true);
    let eni = b.network_interface(small.subnet, "moving", "10.0.0.6");
    let (one, two) = (b.world.find_instance("one").unwrap(), b.world.find_instance("two").unwrap());
    let attach = |network_interface, instance, device_index| Op::AttachNetworkInterface {
        network_interface,
        instance,
        device_index,
    };
    let refused = |small: &Small, op: Op| {
        let refusal = small.refusal(op);
        (refusal.code, refusal.message)
    };
    let fixed = "The network interface at device index 0 cannot be detached.".to_owned();
    assert_eq!(refused(&small, Op::DetachNetworkInterface(primary)), (ErrorCode::OperationNotPermitted, fixed));
    assert_eq!(small.refusal(Op::DetachNetworkInterface(eni)).code, ErrorCode::InvalidAttachmentIdNotFound);
    assert_eq!(small.refusal(attach(eni, one, 0)).code, ErrorCode::InvalidParameterValue);
    small.builder.apply(attach(eni, one, 1));
    let again = refused(&small, attach(eni, two, 1));
    assert_eq!(again.0, ErrorCode::InvalidNetworkInterfaceInUse);
    assert_eq!(small.refusal(Op::DeleteNetworkInterface(eni)).code, ErrorCode::InvalidParameterValue);
    // It outlives its instance, what was made along with that doesn't.
    small.builder.apply(Op::TerminateInstance(one));
    let world = &small.builder.world;
    assert!(world.network_interface(primary).is_err());
    assert_eq!(world.network_interface(eni).unwrap().attachment, None);
    assert_eq!(small.refusal(attach(eni, one, 1)).code, ErrorCode::IncorrectInstanceState);
    let other_zone = Op::CreateSubnet(CreateSubnet {
        id: SubnetId::from_seed(7),
        vpc: small.vpc,
        cidr: "10.0.7.0/24".parse().unwrap(),
        availability_zone: "ap-northeast-3b".to_owned(),
        tags: Tags::default(),
        origin: Origin::default(),
    });
    small.builder.apply(other_zone);
    let far = small.builder.network_interface(SubnetId::from_seed(7), "far", "10.0.7.6");
    assert_eq!(small.refusal(attach(far, two, 1)).code, ErrorCode::InvalidParameterCombination);
    small.builder.apply(attach(eni, two, 3));
    small.builder.apply(Op::DetachNetworkInterface(eni));
    small.builder.apply(Op::DeleteNetworkInterface(eni));
}

#[test]
fn seed_17_a_gateways_table_takes_a_classic_load_balancers_interface_and_no_network_load_balancers() {
    let mut small = small();
    let b = &mut small.builder;
    let gateway = b.internet_gateway(small.vpc);
    let table = b.gateway_route_table(small.vpc, GatewayId::Internet(gateway));
    let classic = b.load_balancer(small.subnet, "classic", "10.0.0.6", LoadBalancer::Classic);
    let network = b.load_balancer(small.subnet, "network", "10.0.0.7", LoadBalancer::Network);
    small.accepts(create_route(table, "10.0.0.0/24", RouteTarget::NetworkInterface(classic)));
    let refusal = small.refusal(create_route(table, "10.0.0.0/24", RouteTarget::NetworkInterface(network)));
    assert_eq!((refusal.code, refusal.parameter), (ErrorCode::InvalidParameterValue, "Target"));
    // SDC-0: nobody switches its check off.
    let off = Op::ModifySourceDestCheck { network_interface: classic, source_dest_check: false };
    assert_eq!(small.refusal(off).code, ErrorCode::OperationNotPermitted);
}

#[test]
fn r_18_r_19_r_20_a_tables_own_routes_win_over_propagated_ones_and_local_over_all() {
    let mut small = small();
    let b = &mut small.builder;
    let table = b.route_table(small.vpc, small.subnet);
    let gateway = b.vpn_gateway(small.vpc, "vgw");
    b.site(gateway, "office", &["192.168.0.0/16", "10.0.0.0/24", "10.0.0.0/8", "172.16.0.0/12"]);
    let eni = b.instance(small.subnet, "appliance", "10.0.0.4", &[], false);
    b.route(table, "172.16.0.0/12", RouteTarget::NetworkInterface(eni));
    b.apply(Op::EnableVgwRoutePropagation { route_table: table, gateway });
    let routes = |small: &Small| {
        let world = &small.builder.world;
        let all = world.routes(world.route_table(table).unwrap());
        let line = |route: &Route| {
            (
                route.destination.to_string(),
                route.route_origin,
                world.loses_to_local(world.route_table(table).unwrap(), route),
            )
        };
        all.iter().map(line).collect::<Vec<_>>()
    };
    use RouteOrigin::{CreateRoute, CreateRouteTable, EnableVgwRoutePropagation};
    let line = |destination: &str, origin, loses| (destination.to_owned(), origin, loses);
    let expected = [
        line("10.0.0.0/16", CreateRouteTable, false),
        line("172.16.0.0/12", CreateRoute, false),
        line("192.168.0.0/16", EnableVgwRoutePropagation, false),
        line("10.0.0.0/24", EnableVgwRoutePropagation, true),
        line("10.0.0.0/8", EnableVgwRoutePropagation, false),
    ];
    assert_eq!(routes(&small), expected);
    small.builder.apply(Op::DisableVgwRoutePropagation { route_table: table, gateway });
    assert_eq!(routes(&small), expected[..2]);
    // whatever the own route leads to.
    let igw = RouteTarget::InternetGateway(small.builder.internet_gateway(small.vpc));
    let nat = RouteTarget::NatGateway(small.builder.nat_gateway(small.subnet, "nat", "10.0.0.9"));
    small.builder.apply(Op::EnableVgwRoutePropagation { route_table: table, gateway });
    for target in [igw, nat, RouteTarget::NetworkInterface(eni), RouteTarget::VpnGateway(gateway)] {
        let mut world = small.builder.world.clone();
        world.apply(create_route(table, "192.168.0.0/16", target)).unwrap();
        let all = world.routes(world.route_table(table).unwrap());
        let equal: Vec<_> = all.iter().filter(|route| route.destination.to_string() == "192.168.0.0/16").collect();
        assert!(matches!(equal[..], [route] if route.target == target && route.route_origin == CreateRoute));
    }
    // inside the VPC no route leads to a gateway of its edge.
    let refusal = small.refusal(create_route(table, "10.0.0.0/24", RouteTarget::VpnGateway(gateway)));
    assert_eq!((refusal.code, refusal.parameter), (ErrorCode::InvalidParameterValue, "Target"));
    small.accepts(create_route(table, "192.168.0.0/16", RouteTarget::VpnGateway(gateway)));
}

#[test]
fn r_31_r_34_a_virtual_private_gateways_table_is_not_the_main_one_and_has_no_propagated_routes() {
    let mut small = small();
    let b = &mut small.builder;
    let gateway = b.vpn_gateway(small.vpc, "vgw");
    let eni = b.instance(small.subnet, "appliance", "10.0.0.4", &[], false);
    let edge = b.gateway_route_table(small.vpc, GatewayId::Vpn(gateway));
    let main = b.world.vpc(small.vpc).unwrap().main_route_table;
    let propagate = |route_table| Op::EnableVgwRoutePropagation { route_table, gateway };
    assert_eq!(small.refusal(propagate(edge)).code, ErrorCode::InvalidParameterValue);
    small.accepts(create_route(edge, "10.0.0.0/24", RouteTarget::NetworkInterface(eni)));
    for (destination, target) in
        [("8.8.8.8/32", RouteTarget::NetworkInterface(eni)), ("10.0.0.0/24", RouteTarget::VpnGateway(gateway))]
    {
        assert_eq!(small.refusal(create_route(edge, destination, target)).code, ErrorCode::InvalidParameterValue);
    }
    let other = small.builder.route_table(small.vpc, small.subnet);
    small.builder.apply(propagate(other));
    let associate = |route_table| Op::AssociateGatewayRouteTable { route_table, gateway: GatewayId::Vpn(gateway) };
    for table in [main, other] {
        assert_eq!(small.refusal(associate(table)).code, ErrorCode::InvalidParameterValue);
    }
}

#[test]
fn a_vpc_has_one_virtual_private_gateway_and_a_site_addresses_of_its_own() {
    let mut small = small();
    let b = &mut small.builder;
    let gateway = b.vpn_gateway(small.vpc, "vgw");
    let site = b.site(gateway, "office", &["192.168.0.0/24"]);
    let second = VpnGateway {
        id: VpnGatewayId::from_seed(7),
        vpc: small.vpc,
        route_table: None,
        tags: Tags::default(),
        origin: Origin::default(),
    };
    assert_eq!(small.refusal(Op::AttachVpnGateway(second)).code, ErrorCode::ResourceAlreadyAssociated);
    let host = |address: &str| {
        Op::CreateHost(CreateHost {
            id: HostId::from_seed(7),
            name: "pc".to_owned(),
            site: Some(site),
            address: address.parse().unwrap(),
            mac: MacAddress::from_seed(7),
            serve: Vec::new(),
            origin: Origin::default(),
        })
    };
    for (address, code) in [
        ("192.168.1.9", ErrorCode::InvalidParameterValue),
        ("192.168.0.0", ErrorCode::InvalidParameterValue),
        ("192.168.0.255", ErrorCode::InvalidParameterValue),
        ("192.168.0.1", ErrorCode::InvalidIpAddressInUse),
    ] {
        assert_eq!(small.refusal(host(address)).code, code, "{address}");
    }
    small.builder.apply(host("192.168.0.9"));
    let route = |destination: &str| Op::CreateVpnConnectionRoute {
        connection: site,
        destination: destination.parse().unwrap(),
    };
    assert_eq!(small.refusal(route("192.168.0.0/24")).code, ErrorCode::InvalidParameterValue, "twice");
    assert_eq!(small.refusal(route("10.0.0.1/24")).code, ErrorCode::InvalidParameterValue, "not a block");
    // What is in use stays.
    for op in [Op::DetachVpnGateway(gateway), Op::DeleteVpnConnection(site), Op::DeleteVpc(small.vpc)] {
        assert_eq!(small.refusal(op).code, ErrorCode::DependencyViolation);
    }
    let gone = Op::DeleteVpnConnectionRoute { connection: site, destination: "192.168.0.0/24".parse().unwrap() };
    assert_eq!(small.refusal(gone).parameter, "Router");
}
