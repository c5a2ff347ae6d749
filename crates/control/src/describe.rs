//! Resources as the answers of EC2's describe calls, in the shape that the AWS command line prints. What a resource
//! doesn't have is left out.

use std::net::Ipv4Addr;

use minivpc_model::{
    AllocationId, Association, Attachment, Connectivity, DhcpConfiguration, DhcpOptionsId, DomainNameServer,
    HostedZoneId, InternetGatewayId, LoadBalancer, NatGatewayId, NetworkAclEntry, NetworkAclId, NetworkInterfaceId,
    Peer, PortRange, Refusal, RouteOrigin, RouteState, RouteTableId, RouteTarget, RuleAction, SecurityGroupId,
    SecurityGroupRule, Tags, Traffic, VpnConnectionId, VpnGatewayId, World,
};
use serde_json::{Map, Value, json};

/// `DescribeRouteTables` of one.
///
/// # Errors
/// When there is no such table.
pub fn route_table(world: &World, id: RouteTableId) -> Result<Value, Refusal> {
    let table = world.route_table(id)?;
    let main = world.vpc(table.vpc)?.main_route_table == id;
    let mut associations: Vec<_> =
        main.then(|| json!({ "Main": true, "RouteTableId": id.to_string() })).into_iter().collect();
    for subnet in world.subnets().filter(|subnet| subnet.route_table == Some(id)) {
        let (table, subnet) = (id.to_string(), subnet.id.to_string());
        associations.push(json!({ "Main": false, "RouteTableId": table, "SubnetId": subnet }));
    }
    for (gateway, _) in world.edge_associations().filter(|(_, table)| *table == id) {
        let (table, gateway) = (id.to_string(), gateway.to_string());
        associations.push(json!({ "Main": false, "RouteTableId": table, "GatewayId": gateway }));
    }
    // The most specific first, as AWS prints them.
    let mut routes = world.routes(table);
    routes.sort_by_key(|route| std::cmp::Reverse(route.destination.prefix_len()));
    let route = |route: &minivpc_model::Route| {
        let (key, target) = match route.target {
            RouteTarget::Local => ("GatewayId", "local".to_owned()),
            RouteTarget::InternetGateway(id) => ("GatewayId", id.to_string()),
            RouteTarget::VpnGateway(id) => ("GatewayId", id.to_string()),
            RouteTarget::NatGateway(id) => ("NatGatewayId", id.to_string()),
            RouteTarget::NetworkInterface(id) => ("NetworkInterfaceId", id.to_string()),
        };
        let origin = match route.route_origin {
            RouteOrigin::CreateRouteTable => "CreateRouteTable",
            RouteOrigin::CreateRoute => "CreateRoute",
            RouteOrigin::EnableVgwRoutePropagation => "EnableVgwRoutePropagation",
        };
        let state = match world.route_state(route) {
            RouteState::Active => "active",
            RouteState::Blackhole => "blackhole",
        };
        json!({ "DestinationCidrBlock": route.destination.to_string(), key: target, "Origin": origin, "State": state })
    };
    let routes: Vec<_> = routes.iter().map(route).collect();
    let propagating: Vec<_> =
        table.propagating_vgws.iter().map(|vgw| json!({ "GatewayId": vgw.to_string() })).collect();
    Ok(json!({ "RouteTables": [{
        "Associations": associations,
        "PropagatingVgws": propagating,
        "RouteTableId": id.to_string(),
        "Routes": routes,
        "Tags": tags(&table.tags),
        "VpcId": table.vpc.to_string(),
    }]}))
}

/// `DescribeNetworkAcls` of one, with the `*` rules that nobody can edit (NACL-2).
///
/// # Errors
/// When there is no such network ACL.
pub fn network_acl(world: &World, id: NetworkAclId) -> Result<Value, Refusal> {
    let acl = world.network_acl(id)?;
    let mut entries = Vec::new();
    for (egress, list) in [(true, &acl.egress), (false, &acl.ingress)] {
        entries.extend(list.iter().map(|(number, entry)| acl_entry(egress, *number, entry)));
        entries.push(json!({
            "CidrBlock": "0.0.0.0/0", "Egress": egress, "Protocol": "-1", "RuleAction": "deny", "RuleNumber": 32767,
        }));
    }
    let associated = world.subnets().filter(|subnet| subnet.network_acl == id);
    let associations = associated
        .map(|subnet| json!({ "NetworkAclId": id.to_string(), "SubnetId": subnet.id.to_string() }))
        .collect::<Vec<_>>();
    Ok(json!({ "NetworkAcls": [{
        "Associations": associations,
        "Entries": entries,
        "IsDefault": world.vpc(acl.vpc)?.default_network_acl == id,
        "NetworkAclId": id.to_string(),
        "Tags": tags(&acl.tags),
        "VpcId": acl.vpc.to_string(),
    }]}))
}

fn acl_entry(egress: bool, number: u16, entry: &NetworkAclEntry) -> Value {
    let mut fields = Map::new();
    fields.insert("CidrBlock".to_owned(), entry.cidr.to_string().into());
    fields.insert("Egress".to_owned(), egress.into());
    if let Traffic::Icmp { kind, code } = entry.traffic {
        fields.insert("IcmpTypeCode".to_owned(), json!({ "Code": or_any(code), "Type": or_any(kind) }));
    }
    if let Traffic::Tcp(PortRange { from, to }) | Traffic::Udp(PortRange { from, to }) = entry.traffic {
        fields.insert("PortRange".to_owned(), json!({ "From": from, "To": to }));
    }
    let protocol = entry.traffic.protocol().map_or_else(|| "-1".to_owned(), |number| number.to_string());
    fields.insert("Protocol".to_owned(), protocol.into());
    let action = match entry.action {
        RuleAction::Allow => "allow",
        RuleAction::Deny => "deny",
    };
    fields.insert("RuleAction".to_owned(), action.into());
    fields.insert("RuleNumber".to_owned(), number.into());
    Value::Object(fields)
}

/// `DescribeSecurityGroups` of one.
///
/// # Errors
/// When there is no such group.
pub fn security_group(world: &World, id: SecurityGroupId) -> Result<Value, Refusal> {
    let group = world.security_group(id)?;
    let permissions = |rules: &[SecurityGroupRule]| rules.iter().map(permission).collect::<Vec<_>>();
    Ok(json!({ "SecurityGroups": [{
        "Description": group.description,
        "GroupId": id.to_string(),
        "GroupName": group.name,
        "IpPermissions": permissions(&group.ingress),
        "IpPermissionsEgress": permissions(&group.egress),
        "Tags": tags(&group.tags),
        "VpcId": group.vpc.to_string(),
    }]}))
}

fn permission(rule: &SecurityGroupRule) -> Value {
    let mut fields = Map::new();
    let ports = match rule.traffic {
        Traffic::Tcp(PortRange { from, to }) | Traffic::Udp(PortRange { from, to }) => Some((from.into(), to.into())),
        Traffic::Icmp { kind, code } => Some((or_any(kind), or_any(code))),
        Traffic::All | Traffic::Protocol(_) => None,
    };
    if let Some((from, _)) = ports {
        fields.insert("FromPort".to_owned(), from.into());
    }
    let protocol = match rule.traffic {
        Traffic::All => "-1".to_owned(),
        Traffic::Tcp(_) => "tcp".to_owned(),
        Traffic::Udp(_) => "udp".to_owned(),
        Traffic::Icmp { .. } => "icmp".to_owned(),
        Traffic::Protocol(number) => number.to_string(),
    };
    fields.insert("IpProtocol".to_owned(), protocol.into());
    let mut peer = Map::new();
    if !rule.description.is_empty() {
        peer.insert("Description".to_owned(), rule.description.clone().into());
    }
    let list = match rule.peer {
        Peer::Cidr(net) => {
            peer.insert("CidrIp".to_owned(), net.to_string().into());
            "IpRanges"
        }
        Peer::SecurityGroup(id) => {
            peer.insert("GroupId".to_owned(), id.to_string().into());
            "UserIdGroupPairs"
        }
    };
    fields.insert(list.to_owned(), json!([peer]));
    if let Some((_, to)) = ports {
        fields.insert("ToPort".to_owned(), to.into());
    }
    Value::Object(fields)
}

/// `DescribeNatGateways` of one.
///
/// # Errors
/// When there is no such gateway.
pub fn nat_gateway(world: &World, id: NatGatewayId) -> Result<Value, Refusal> {
    let nat = world.nat_gateway(id)?;
    // A deleted gateway has none.
    let eni = world.network_interface(nat.network_interface).ok();
    let (connectivity, allocations) = match &nat.connectivity {
        Connectivity::Private => ("private", &[][..]),
        Connectivity::Public(allocations) => ("public", allocations.as_slice()),
    };
    let held: Vec<_> = eni.map(|eni| eni.addresses().collect()).unwrap_or_default();
    let mut addresses = Vec::new();
    for (number, private_ip) in held.iter().enumerate() {
        let mut address = Map::new();
        if let Some(allocation) = allocations.get(number) {
            address.insert("AllocationId".to_owned(), allocation.to_string().into());
        }
        if held.len() > 1 {
            address.insert("IsPrimary".to_owned(), (number == 0).into());
        }
        address.insert("NetworkInterfaceId".to_owned(), nat.network_interface.to_string().into());
        address.insert("PrivateIp".to_owned(), private_ip.to_string().into());
        if let Some(allocation) = allocations.get(number) {
            address.insert("PublicIp".to_owned(), world.address(*allocation)?.public_ip.to_string().into());
        }
        addresses.push(address);
    }
    let mut described = json!({
        "ConnectivityType": connectivity,
        // The command line writes UTC so.
        "CreateTime": nat.create_time.replace('Z', "+00:00"),
        "NatGatewayAddresses": addresses,
        "NatGatewayId": id.to_string(),
        "State": nat.state.as_str(),
        "SubnetId": nat.subnet.to_string(),
        "Tags": tags(&nat.tags),
    });
    // A deleted gateway's subnet may be gone, too.
    if let (Ok(subnet), Some(fields)) = (world.subnet(nat.subnet), described.as_object_mut()) {
        fields.insert("VpcId".to_owned(), subnet.vpc.to_string().into());
    }
    Ok(json!({ "NatGateways": [described] }))
}

/// `DescribeNetworkInterfaces` of one.
///
/// # Errors
/// When there is no such interface.
pub fn network_interface(world: &World, id: NetworkInterfaceId) -> Result<Value, Refusal> {
    let eni = world.network_interface(id)?;
    let subnet = world.subnet(eni.subnet)?;
    let attachment = eni.attachment.map(|attachment| match attachment {
        Attachment::Instance { instance, device_index, delete_on_termination } => json!({
            "DeleteOnTermination": delete_on_termination,
            "DeviceIndex": device_index,
            "InstanceId": instance.to_string(),
            "Status": "attached",
        }),
        Attachment::NatGateway(_) | Attachment::LoadBalancer(_) => json!({ "Status": "attached" }),
    });
    let group = |id: &SecurityGroupId| {
        let name = world.security_group(*id).map_or_else(|_| String::new(), |group| group.name.clone());
        json!({ "GroupId": id.to_string(), "GroupName": name })
    };
    let association = |private_ip| {
        let public_ip = world.public_address_of(id, private_ip)?;
        let elastic = world.addresses().find(|address| address.public_ip == public_ip);
        Some(match elastic {
            Some(elastic) => json!({ "AllocationId": elastic.id.to_string(), "PublicIp": public_ip.to_string() }),
            None => json!({ "IpOwnerId": "amazon", "PublicIp": public_ip.to_string() }),
        })
    };
    let address = |(number, address): (usize, Ipv4Addr)| {
        let mut fields = Map::new();
        fields.extend(association(address).map(|association| ("Association".to_owned(), association)));
        fields.insert("Primary".to_owned(), (number == 0).into());
        fields.insert("PrivateIpAddress".to_owned(), address.to_string().into());
        fields
    };
    let mut described = json!({
        "AvailabilityZone": subnet.availability_zone,
        "Groups": eni.groups.iter().map(group).collect::<Vec<_>>(),
        "InterfaceType": match eni.attachment {
            Some(Attachment::NatGateway(_)) => "nat_gateway",
            Some(Attachment::LoadBalancer(LoadBalancer::Network)) => "network_load_balancer",
            _ => "interface",
        },
        "MacAddress": eni.mac.to_string(),
        "NetworkInterfaceId": id.to_string(),
        "PrivateIpAddress": eni.private_ip.to_string(),
        "PrivateIpAddresses": eni.addresses().enumerate().map(address).collect::<Vec<_>>(),
        "RequesterManaged": eni.is_requester_managed(),
        "SourceDestCheck": eni.source_dest_check,
        "Status": eni.status(),
        "SubnetId": eni.subnet.to_string(),
        "TagSet": tags(&eni.tags),
        "VpcId": subnet.vpc.to_string(),
    });
    if let Some(fields) = described.as_object_mut() {
        fields.extend(association(eni.private_ip).map(|association| ("Association".to_owned(), association)));
        fields.extend(attachment.map(|attachment| ("Attachment".to_owned(), attachment)));
    }
    Ok(json!({ "NetworkInterfaces": [described] }))
}

/// `DescribeAddresses` of one.
///
/// # Errors
/// When there is no such address.
pub fn elastic_ip(world: &World, id: AllocationId) -> Result<Value, Refusal> {
    let address = world.address(id)?;
    let mut fields = Map::new();
    let mut field = |key: &str, value: String| fields.insert(key.to_owned(), value.into());
    field("AllocationId", id.to_string());
    field("Domain", "vpc".to_owned());
    if let Some(Association { network_interface, private_ip }) = address.association {
        if let Some(instance) = world.network_interface(network_interface)?.instance() {
            field("InstanceId", instance.to_string());
        }
        field("NetworkInterfaceId", network_interface.to_string());
        field("PrivateIpAddress", private_ip.to_string());
    }
    field("PublicIp", address.public_ip.to_string());
    fields.insert("Tags".to_owned(), tags(&address.tags));
    Ok(json!({ "Addresses": [fields] }))
}

/// `DescribeInternetGateways` of one.
///
/// # Errors
/// When there is no such gateway.
pub fn internet_gateway(world: &World, id: InternetGatewayId) -> Result<Value, Refusal> {
    let gateway = world.internet_gateway(id)?;
    Ok(json!({ "InternetGateways": [{
        "Attachments": [{ "State": "available", "VpcId": gateway.vpc.to_string() }],
        "InternetGatewayId": id.to_string(),
        "Tags": tags(&gateway.tags),
    }]}))
}

/// `DescribeVpnGateways` of one.
///
/// # Errors
/// When there is no such gateway.
pub fn vpn_gateway(world: &World, id: VpnGatewayId) -> Result<Value, Refusal> {
    let gateway = world.vpn_gateway(id)?;
    Ok(json!({ "VpnGateways": [{
        "State": "available",
        "Tags": tags(&gateway.tags),
        "Type": "ipsec.1",
        "VpcAttachments": [{ "State": "attached", "VpcId": gateway.vpc.to_string() }],
        "VpnGatewayId": id.to_string(),
    }]}))
}

/// `DescribeVpnConnections` of one.
///
/// # Errors
/// When there is no such connection.
pub fn vpn_connection(world: &World, id: VpnConnectionId) -> Result<Value, Refusal> {
    let connection = world.vpn_connection(id)?;
    let route = |block: &ipnet::Ipv4Net| json!({ "DestinationCidrBlock": block.to_string(), "State": "available" });
    Ok(json!({ "VpnConnections": [{
        "Category": "VPN",
        "Options": { "StaticRoutesOnly": true },
        "Routes": connection.static_routes.iter().map(route).collect::<Vec<_>>(),
        "State": "available",
        "Tags": tags(&connection.tags),
        "Type": "ipsec.1",
        "VpnConnectionId": id.to_string(),
        "VpnGatewayId": connection.vpn_gateway.to_string(),
    }]}))
}

/// `DescribeDhcpOptions` of one.
///
/// # Errors
/// When there is no such set.
pub fn dhcp_options(world: &World, id: DhcpOptionsId) -> Result<Value, Refusal> {
    let set = world.dhcp_options_set(id)?;
    let DhcpConfiguration { domain_name_servers, domain_name, ntp_servers, netbios_name_servers, netbios_node_type } =
        &set.configuration;
    let addresses = |all: &[Ipv4Addr]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let server = |server: &DomainNameServer| match server {
        DomainNameServer::AmazonProvided => "AmazonProvidedDNS".to_owned(),
        DomainNameServer::Address(address) => address.to_string(),
    };
    let told = [
        ("domain-name", domain_name.iter().cloned().collect()),
        ("domain-name-servers", domain_name_servers.iter().map(server).collect()),
        ("ntp-servers", addresses(ntp_servers)),
        ("netbios-name-servers", addresses(netbios_name_servers)),
        ("netbios-node-type", netbios_node_type.iter().map(ToString::to_string).collect::<Vec<_>>()),
    ];
    let told = told.iter().filter(|(_, values)| !values.is_empty()).map(|(key, values)| {
        let values: Vec<_> = values.iter().map(|value| json!({ "Value": value })).collect();
        json!({ "Key": key, "Values": values })
    });
    Ok(json!({ "DhcpOptions": [{
        "DhcpConfigurations": told.collect::<Vec<_>>(),
        "DhcpOptionsId": id.to_string(),
        "Tags": tags(&set.tags),
    }]}))
}

/// Route 53's `ListResourceRecordSets` of a zone.
///
/// # Errors
/// When there is no such zone.
pub fn hosted_zone(world: &World, id: HostedZoneId) -> Result<Value, Refusal> {
    let zone = world.hosted_zone(id)?;
    // As Route 53 writes what isn't a letter, a digit or a sign that names have.
    let name = |name: &str| format!("{}.", name.replace('*', "\\052"));
    let mut sets: Vec<_> = zone.all_record_sets().collect();
    // In the order of Route 53: the zone's own first, then label by label from the right.
    sets.sort_by_cached_key(|(name, kind, _)| (name.rsplit('.').map(str::to_owned).collect::<Vec<_>>(), kind.as_str()));
    let sets = sets.into_iter().map(|(of, kind, set)| {
        let records: Vec<_> = set.values.iter().map(|value| json!({ "Value": value })).collect();
        json!({ "Name": name(of), "ResourceRecords": records, "TTL": set.ttl, "Type": kind.as_str() })
    });
    Ok(json!({ "ResourceRecordSets": sets.collect::<Vec<_>>() }))
}

fn tags(tags: &Tags) -> Value {
    tags.0.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// AWS's −1 is any.
fn or_any(number: Option<u8>) -> i32 {
    number.map_or(-1, i32::from)
}
