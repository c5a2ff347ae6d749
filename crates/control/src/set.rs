//! Single changes, as the operations that they are on AWS.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use minivpc_model::{Op, Origin, RouteTarget, World, link_number};

use crate::answer::not_found;
use crate::protocol::{Failure, Setting};

/// What stands for nobody.
const NONE: &str = "none";

/// The operations that make a setting.
pub(crate) fn ops(world: &World, setting: &Setting) -> Result<Vec<Op>, Failure> {
    match setting {
        Setting::Route { table, destination, target } => route(world, table, *destination, target),
        Setting::ElasticIp { name, holder, private_ip } => elastic_ip(world, name, holder, *private_ip),
        Setting::Address { address, holder } => address_of(world, *address, holder),
        Setting::NetworkInterface { name, holder } => network_interface(world, name, holder),
        Setting::SecurityGroups { interface, groups } => {
            let network_interface = world.find_network_interface(interface).map_err(not_found)?;
            let subnet = world.network_interface(network_interface).and_then(|eni| world.subnet(eni.subnet));
            let home = subnet.ok().map(|subnet| subnet.vpc);
            let groups = groups.iter().map(|group| world.find_security_group(home, group).map_err(not_found));
            let groups = groups.collect::<Result<_, _>>()?;
            Ok(vec![Op::ModifyNetworkInterfaceGroups { network_interface, groups }])
        }
        Setting::SourceDestCheck { interface, on } => {
            let network_interface = world.find_network_interface(interface).map_err(not_found)?;
            Ok(vec![Op::ModifySourceDestCheck { network_interface, source_dest_check: *on }])
        }
    }
}

fn route(world: &World, table: &str, destination: IpNet, target: &str) -> Result<Vec<Op>, Failure> {
    let route_table = world.find_route_table(None, table).map_err(not_found)?;
    let table = world.route_table(route_table).map_err(|refusal| refusal.to_string())?;
    let is_there = table.routes.iter().any(|route| route.destination == destination);
    let origin = Origin::default();
    let target = match target {
        NONE => return Ok(vec![Op::DeleteRoute { route_table, destination }]),
        "local" => RouteTarget::Local,
        name => world.find_route_target(table.vpc, name).map_err(not_found)?,
    };
    Ok(vec![match is_there {
        true => Op::ReplaceRoute { route_table, destination, target, origin },
        false => Op::CreateRoute { route_table, destination, target, origin },
    }])
}

fn elastic_ip(world: &World, name: &str, holder: &str, private_ip: Option<Ipv4Addr>) -> Result<Vec<Op>, Failure> {
    let allocation = world.find_elastic_ip(None, name).map_err(not_found)?;
    if holder == NONE {
        return Ok(vec![Op::DisassociateAddress(allocation)]);
    }
    let network_interface = world.find_network_interface(holder).map_err(not_found)?;
    let allow_reassociation = true;
    Ok(vec![Op::AssociateAddress { allocation, network_interface, private_ip, allow_reassociation }])
}

/// FO-2: it is taken from whoever has it.
fn network_interface(world: &World, name: &str, holder: &str) -> Result<Vec<Op>, Failure> {
    let network_interface = world.find_network_interface(name).map_err(not_found)?;
    let detach = Op::DetachNetworkInterface(network_interface);
    if holder == NONE {
        return Ok(vec![detach]);
    }
    let eni = world.network_interface(network_interface).map_err(|refusal| refusal.to_string())?;
    // An instance is meant, whichever of its interfaces it becomes: one that it is already will do.
    let names_a_link = holder.rsplit('/').next().is_some_and(|link| link_number(link).is_some());
    let (instance, device_index) = world.find_place(holder).map_err(not_found)?;
    if eni.instance() == Some(instance) && (!names_a_link || eni.device_index() == Some(device_index)) {
        return Ok(Vec::new());
    }
    let attach = Op::AttachNetworkInterface { network_interface, instance, device_index };
    Ok(eni.attachment.map(|_| detach).into_iter().chain([attach]).collect())
}

fn address_of(world: &World, address: Ipv4Addr, holder: &str) -> Result<Vec<Op>, Failure> {
    let addresses = vec![address];
    if holder != NONE {
        let network_interface = world.find_network_interface(holder).map_err(not_found)?;
        return Ok(vec![Op::AssignPrivateIpAddresses { network_interface, addresses, allow_reassignment: true }]);
    }
    let network_interface = world.find_network_interface(&address.to_string()).map_err(not_found)?;
    Ok(vec![Op::UnassignPrivateIpAddresses { network_interface, addresses }])
}
