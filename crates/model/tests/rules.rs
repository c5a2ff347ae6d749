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
        device_index: 0,
        subnet,
        private_ip,
        secondary_private_ips: Vec::new(),
        mac: MacAddress::from_seed(1000),
        groups: Vec::new(),
        source_dest_check: true,
        origin: Origin::default(),
    };
    Op::RunInstance(RunInstance {
        id: InstanceId::from_seed(1000),
        interfaces: vec![interface],
        associate_public_ip: false,
        image: Image::AmazonLinux2,
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
    assert_eq!((eni.attachment, eni.subnet), (Attachment::NatGateway(nat.id), small.subnet));
    assert_eq!(eni.private_ip, Ipv4Addr::new(10, 0, 0, 4), "an address of the subnet");
    assert!(eni.groups.is_empty());
}
