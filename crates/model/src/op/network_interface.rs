//! Network interfaces: their addresses, groups and check. Instances and NAT gateways bring some along.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::route::same_network;
use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::{AddressOwner, World};

/// Groups per interface.
const GROUPS_PER_INTERFACE: usize = 5;
/// Addresses per interface: what AWS grants depends on the instance type, and is at most this.
const ADDRESSES_PER_INTERFACE: usize = 50;

/// An interface to make, alone or along with its instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInterface {
    /// Its id.
    pub id: NetworkInterfaceId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its primary address; the lowest free one if none is given.
    pub private_ip: Option<Ipv4Addr>,
    /// Further addresses.
    pub secondary_private_ips: Vec<Ipv4Addr>,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its groups; empty for the VPC's default one.
    pub groups: Vec<SecurityGroupId>,
    /// SDC-0.
    pub source_dest_check: bool,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

impl World {
    /// SDC-0: a load balancer's check is on.
    pub(super) fn create_network_interface(
        &mut self,
        new: &NewInterface,
        load_balancer: Option<LoadBalancer>,
    ) -> Result<(), Refusal> {
        if load_balancer.is_some() && !new.source_dest_check {
            let message = "The source/destination check of a load balancer's interface cannot be switched off";
            return Err(Refusal::new(ErrorCode::OperationNotPermitted, "SourceDestCheck", message));
        }
        self.create_interface(new, load_balancer.map(Attachment::LoadBalancer))
    }

    pub(super) fn create_interface(
        &mut self,
        new: &NewInterface,
        attachment: Option<Attachment>,
    ) -> Result<(), Refusal> {
        self.unused(self.network_interfaces.contains_key(&new.id), new.id)?;
        let subnet = self.subnet(new.subnet)?;
        let groups = match new.groups.as_slice() {
            [] => vec![self.vpc(subnet.vpc)?.default_security_group],
            given => given.to_vec(),
        };
        self.check_groups(&groups, subnet)?;
        let addresses = self.pick_addresses(subnet, new.private_ip, &new.secondary_private_ips)?;
        self.insert_interface(NewInterface { groups, ..new.clone() }, addresses, attachment);
        Ok(())
    }

    /// `addresses` are checked already, and so are the groups; the first address is the primary one.
    pub(super) fn insert_interface(
        &mut self,
        new: NewInterface,
        mut addresses: Vec<Ipv4Addr>,
        attachment: Option<Attachment>,
    ) {
        let NewInterface { id, subnet, mac, groups, source_dest_check, tags, origin, .. } = new;
        let eni = NetworkInterface {
            id,
            serial: self.next_serial(),
            subnet,
            mac,
            private_ip: addresses.remove(0),
            secondary_private_ips: addresses,
            public_ip: None,
            groups,
            source_dest_check,
            attachment,
            tags,
            origin,
        };
        self.network_interfaces.insert(id, eni);
    }

    pub(super) fn delete_network_interface(&mut self, id: NetworkInterfaceId) -> Result<(), Refusal> {
        match self.network_interface(id)?.attachment {
            None | Some(Attachment::LoadBalancer(_)) => {}
            Some(Attachment::Instance { .. } | Attachment::NatGateway(_)) => {
                let message = format!("Network interface '{id}' is currently in use by {}.", self.holder_name(id));
                return Err(Refusal::new(ErrorCode::InvalidParameterValue, "NetworkInterfaceId", message));
            }
        }
        self.remove_interface(id);
        Ok(())
    }

    /// An interface goes; an Elastic IP address that it had stays, free (NAT-32).
    pub(super) fn remove_interface(&mut self, id: NetworkInterfaceId) {
        self.network_interfaces.remove(&id);
        let is_its = |address: &&mut Address| address.association.is_some_and(|held| held.network_interface == id);
        for address in self.addresses.values_mut().filter(is_its) {
            address.association = None;
        }
    }

    fn check_groups(&self, groups: &[SecurityGroupId], subnet: &Subnet) -> Result<(), Refusal> {
        if groups.len() > GROUPS_PER_INTERFACE {
            let message =
                "You have reached the limit on the number of security groups you can add to a network interface.";
            return Err(Refusal::new(ErrorCode::SecurityGroupsPerInterfaceLimitExceeded, "SecurityGroupId", message));
        }
        for (number, group) in groups.iter().enumerate() {
            if groups[..number].contains(group) {
                let message = format!("The security group '{group}' is given twice");
                return Err(Refusal::new(ErrorCode::InvalidParameterValue, "SecurityGroupId", message));
            }
            let home = self.security_group(*group)?.vpc;
            same_network("Security group", group, home, "subnet", subnet.id, subnet.vpc)
                .map_err(|refusal| Refusal { parameter: "SecurityGroupId", ..refusal })?;
        }
        Ok(())
    }

    pub(super) fn modify_groups(
        &mut self,
        id: NetworkInterfaceId,
        groups: Vec<SecurityGroupId>,
    ) -> Result<(), Refusal> {
        let eni = self.network_interface(id)?;
        self.refuse_requester_managed(eni)?;
        if groups.is_empty() {
            let message = "You must specify at least one security group";
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "SecurityGroupId", message));
        }
        self.check_groups(&groups, self.subnet(eni.subnet)?)?;
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.groups = groups;
        }
        Ok(())
    }

    pub(super) fn modify_source_dest_check(&mut self, id: NetworkInterfaceId, check: bool) -> Result<(), Refusal> {
        self.refuse_requester_managed(self.network_interface(id)?)?;
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.source_dest_check = check;
        }
        Ok(())
    }

    pub(super) fn assign_addresses(
        &mut self,
        id: NetworkInterfaceId,
        more: &[Ipv4Addr],
        allow_reassignment: bool,
    ) -> Result<(), Refusal> {
        let eni = self.network_interface(id)?;
        self.refuse_requester_managed(eni)?;
        let subnet = self.subnet(eni.subnet)?;
        check_count(eni.addresses().count() + more.len())?;
        let mut taken = BTreeSet::new();
        let mut moved = Vec::new();
        for address in more {
            match self.secondary_of(subnet, *address).filter(|holder| allow_reassignment && *holder != id) {
                Some(holder) if !taken.contains(address) => moved.push((holder, *address)),
                _ => self.check_address(subnet, *address, &taken)?,
            }
            taken.insert(*address);
        }
        for (holder, address) in moved {
            if let Some(eni) = self.network_interfaces.get_mut(&holder) {
                eni.secondary_private_ips.retain(|own| *own != address);
            }
            let stands_for_it = Association { network_interface: holder, private_ip: address };
            for association in self.addresses.values_mut().filter_map(|elastic| elastic.association.as_mut()) {
                if *association == stands_for_it {
                    association.network_interface = id;
                }
            }
        }
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.secondary_private_ips.extend(more);
        }
        Ok(())
    }

    /// Whose secondary address it is, if it is one; requester-managed interfaces keep theirs.
    fn secondary_of(&self, subnet: &Subnet, address: Ipv4Addr) -> Option<NetworkInterfaceId> {
        let mut all = self.network_interfaces.values().filter(|eni| eni.subnet == subnet.id);
        let holder = all.find(|eni| eni.secondary_private_ips.contains(&address))?;
        self.refuse_requester_managed(holder).is_ok().then_some(holder.id)
    }

    pub(super) fn unassign_addresses(&mut self, id: NetworkInterfaceId, fewer: &[Ipv4Addr]) -> Result<(), Refusal> {
        let eni = self.network_interface(id)?;
        self.refuse_requester_managed(eni)?;
        if let Some(stranger) = fewer.iter().find(|address| !eni.secondary_private_ips.contains(address)) {
            let message = format!("Some of the specified addresses are not assigned to interface {id}: {stranger}");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "PrivateIpAddress", message));
        }
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.secondary_private_ips.retain(|address| !fewer.contains(address));
        }
        let stands_for = |held: Association| held.network_interface == id && fewer.contains(&held.private_ip);
        for elastic in self.addresses.values_mut().filter(|elastic| elastic.association.is_some_and(stands_for)) {
            elastic.association = None;
        }
        Ok(())
    }

    /// SDC-0, NAT-4: what AWS made for a gateway isn't the customer's to change.
    pub(super) fn refuse_requester_managed(&self, eni: &NetworkInterface) -> Result<(), Refusal> {
        let manager = match eni.attachment {
            None | Some(Attachment::Instance { .. }) => return Ok(()),
            Some(Attachment::NatGateway(_)) => "a NAT gateway",
            Some(Attachment::LoadBalancer(_)) => "a load balancer",
        };
        let message = format!("You do not have permission to modify {}, which {manager} manages", eni.id);
        Err(Refusal::new(ErrorCode::OperationNotPermitted, "NetworkInterfaceId", message))
    }

    /// The addresses that a new interface in `subnet` gets: first the wanted one if it is free, else the lowest free
    /// one; then the others that are wanted.
    pub(super) fn pick_addresses(
        &self,
        subnet: &Subnet,
        wanted: Option<Ipv4Addr>,
        secondary: &[Ipv4Addr],
    ) -> Result<Vec<Ipv4Addr>, Refusal> {
        check_count(1 + secondary.len())?;
        let mut taken = BTreeSet::new();
        for address in wanted.iter().chain(secondary) {
            self.check_address(subnet, *address, &taken)?;
            taken.insert(*address);
        }
        let primary = wanted.map_or_else(|| self.lowest_free(subnet, &taken), Ok)?;
        Ok(std::iter::once(primary).chain(secondary.iter().copied()).collect())
    }

    /// The lowest address of the subnet that nobody has, and that isn't in `taken`.
    pub(super) fn lowest_free(&self, subnet: &Subnet, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Refusal> {
        let holders = self.network_interfaces.values().filter(|eni| eni.subnet == subnet.id);
        let held: BTreeSet<_> = holders.flat_map(NetworkInterface::addresses).collect();
        let is_free = |a: &Ipv4Addr| !subnet.is_reserved(*a) && !taken.contains(a) && !held.contains(a);
        subnet.cidr.hosts().find(is_free).ok_or_else(|| {
            let message = format!("Subnet {} has no free addresses", subnet.id);
            Refusal::new(ErrorCode::InsufficientFreeAddressesInSubnet, "SubnetId", message)
        })
    }

    fn check_address(&self, subnet: &Subnet, address: Ipv4Addr, taken: &BTreeSet<Ipv4Addr>) -> Result<(), Refusal> {
        let refuse = |code, message| Err(Refusal::new(code, "PrivateIpAddress", message));
        if !subnet.cidr.contains(&address) {
            let message = format!("Address {address} does not fall within the subnet's address range {}", subnet.cidr);
            return refuse(ErrorCode::InvalidParameterValue, message);
        }
        if taken.contains(&address) {
            return refuse(ErrorCode::InvalidParameterValue, format!("Address {address} is given twice"));
        }
        match self.address_owner(subnet, address) {
            None => Ok(()),
            Some(AddressOwner::Reserved) => {
                let message = format!("Address {address} is in subnet's reserved address range");
                refuse(ErrorCode::InvalidParameterValue, message)
            }
            Some(AddressOwner::NetworkInterface(holder)) => {
                let message = format!("Address {address} is in use by {}", self.holder_name(holder));
                refuse(ErrorCode::InvalidIpAddressInUse, message)
            }
        }
    }

    /// How to call the owner of an interface in a message.
    pub(super) fn holder_name(&self, eni: NetworkInterfaceId) -> String {
        let Some(eni) = self.network_interfaces.get(&eni) else { return eni.to_string() };
        let (kind, id, tags) = match eni.attachment {
            Some(Attachment::Instance { instance, .. }) => {
                ("instance", instance.to_string(), self.instances.get(&instance).map(|i| &i.tags))
            }
            Some(Attachment::NatGateway(nat)) => {
                ("NAT gateway", nat.to_string(), self.nat_gateways.get(&nat).map(|n| &n.tags))
            }
            Some(Attachment::LoadBalancer(_)) | None => ("network interface", eni.id.to_string(), Some(&eni.tags)),
        };
        match tags.and_then(Tags::name) {
            Some(name) => format!("{kind} {name} ({id})"),
            None => format!("{kind} {id}"),
        }
    }
}

fn check_count(addresses: usize) -> Result<(), Refusal> {
    if addresses <= ADDRESSES_PER_INTERFACE {
        return Ok(());
    }
    let message = format!("Number of private addresses exceeds {ADDRESSES_PER_INTERFACE}");
    Err(Refusal::new(ErrorCode::PrivateIpAddressLimitExceeded, "PrivateIpAddress", message))
}
