//! Public addresses: Elastic IPs, and those from Amazon's pool.

use std::net::Ipv4Addr;

use crate::id::*;
use crate::refusal::{ErrorCode, Refusal};
use crate::resource::*;
use crate::world::World;

/// The first address of what stands for Amazon's pool, 198.18.1.0 to 198.19.255.255 (of RFC 2544's, which nobody has on
/// the internet).
const POOL: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);
/// How many there are.
const POOL_SIZE: u32 = (2 << 16) - (1 << 8);

/// Loopback, link-local, multicast, reserved: not the address of one machine in a network.
pub(super) fn is_nobodys(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    address.is_loopback() || address.is_link_local() || first == 0 || first >= 224
}

/// RFC 6598: the addresses between a provider and its customers.
fn is_shared(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 100 && b & 0xc0 == 64
}

impl World {
    /// An address of the internet that nobody has yet.
    pub(super) fn check_public(&self, address: Ipv4Addr) -> Result<(), Refusal> {
        if is_nobodys(address) || address.is_private() || is_shared(address) {
            let message = format!("Address {address} isn't a public one");
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "Address", message));
        }
        let Some(holder) = self.holder_of_public(address) else { return Ok(()) };
        let message = format!("Address {address} is in use by {holder}");
        Err(Refusal::new(ErrorCode::InvalidIpAddressInUse, "Address", message))
    }

    /// Has nobody this public address?
    #[must_use]
    pub fn is_free(&self, address: Ipv4Addr) -> bool {
        self.holder_of_public(address).is_none()
    }

    fn holder_of_public(&self, address: Ipv4Addr) -> Option<String> {
        let elastic = self.addresses.values().find(|other| other.public_ip == address);
        let elastic = elastic.map(|other| other.tags.name().map_or_else(|| other.id.to_string(), str::to_owned));
        let host = || self.internet_hosts().find(|host| host.address == address).map(|host| host.name.clone());
        let auto = || self.network_interfaces.values().find(|eni| eni.public_ip == Some(address));
        elastic.or_else(host).or_else(|| auto().map(|eni| self.holder_name(eni.id)))
    }

    pub(super) fn allocate_address(
        &mut self,
        id: AllocationId,
        public_ip: Ipv4Addr,
        tags: Tags,
        origin: Origin,
    ) -> Result<(), Refusal> {
        self.unused(self.addresses.contains_key(&id), id)?;
        self.check_public(public_ip)?;
        self.addresses.insert(id, Address { id, public_ip, association: None, tags, origin });
        Ok(())
    }

    pub(super) fn release_address(&mut self, id: AllocationId) -> Result<(), Refusal> {
        if let Some(Association { network_interface, .. }) = self.address(id)?.association {
            let holder = self.holder_name(network_interface);
            let message = format!("The address with allocation id [{id}] is associated with {holder}");
            return Err(Refusal::new(ErrorCode::InvalidIpAddressInUse, "AllocationId", message));
        }
        self.addresses.remove(&id);
        Ok(())
    }

    /// IGW-7. An address that is somewhere else already moves only if that was asked for.
    pub(super) fn associate_address(
        &mut self,
        id: AllocationId,
        network_interface: NetworkInterfaceId,
        private_ip: Option<Ipv4Addr>,
        allow_reassociation: bool,
    ) -> Result<(), Refusal> {
        let address = self.address(id)?;
        let eni = self.network_interface(network_interface)?;
        self.refuse_nat_gateways(eni)?;
        let private_ip = private_ip.unwrap_or(eni.private_ip);
        if !eni.addresses().any(|own| own == private_ip) {
            let message = format!("The private IP address {private_ip} is not assigned to interface {}", eni.id);
            return Err(Refusal::new(ErrorCode::InvalidParameterValue, "PrivateIpAddress", message));
        }
        let vpc = self.subnet(eni.subnet)?.vpc;
        if self.vpc(vpc)?.internet_gateway.is_none() {
            let message = format!("Network {vpc} is not attached to any internet gateway");
            return Err(Refusal::new(ErrorCode::GatewayNotAttached, "AllocationId", message));
        }
        let wanted = Association { network_interface, private_ip };
        let before = address.association;
        let is_others = |other: &&Address| other.id != id && other.association == Some(wanted);
        let other = self.addresses.values().find(is_others).map(|other| other.id);
        let taken = before.filter(|before| *before != wanted).map(|before| (id, before));
        let taken = taken.or(other.map(|other| (other, wanted))).filter(|_| !allow_reassociation);
        if let Some((allocation, Association { network_interface, private_ip })) = taken {
            let holder = self.holder_name(network_interface);
            let message = format!("resource {allocation} is already associated with {private_ip} of {holder}");
            return Err(Refusal::new(ErrorCode::ResourceAlreadyAssociated, "AllocationId", message));
        }
        for gone in other.into_iter().chain([id]) {
            if let Some(address) = self.addresses.get_mut(&gone) {
                address.association = (gone == id).then_some(wanted);
            }
        }
        for eni in before.map(|before| before.network_interface).into_iter().chain([network_interface]) {
            self.renew_public_ip(eni);
        }
        Ok(())
    }

    /// A load balancer has its public addresses from the beginning on AWS; here they are given to it.
    fn refuse_nat_gateways(&self, eni: &NetworkInterface) -> Result<(), Refusal> {
        match eni.attachment {
            Some(Attachment::LoadBalancer(_)) => Ok(()),
            _ => self.refuse_requester_managed(eni),
        }
    }

    pub(super) fn disassociate_address(&mut self, id: AllocationId) -> Result<(), Refusal> {
        let Some(Association { network_interface, .. }) = self.address(id)?.association else {
            let message = format!("The allocation '{id}' is associated with nothing");
            return Err(Refusal::new(ErrorCode::InvalidAssociationIdNotFound, "AllocationId", message));
        };
        self.refuse_nat_gateways(self.network_interface(network_interface)?)?;
        if let Some(address) = self.addresses.get_mut(&id) {
            address.association = None;
        }
        self.renew_public_ip(network_interface);
        Ok(())
    }

    /// IGW-8: an instance that has asked for one has an address from Amazon's pool while it runs and no Elastic IP stands
    /// for its primary address. It gets one only while it has no further interface.
    pub(super) fn renew_public_ip(&mut self, id: NetworkInterfaceId) {
        let Some(eni) = self.network_interfaces.get(&id) else { return };
        let Some(instance) = eni.instance() else { return };
        let primary = Association { network_interface: id, private_ip: eni.private_ip };
        let elastic = self.addresses.values().any(|address| address.association == Some(primary));
        let Some(instance) = self.instances.get(&instance) else { return };
        let asks = instance.associate_public_ip && instance.is_running() && eni.device_index() == Some(0);
        let public_ip = match (asks && !elastic, eni.public_ip) {
            (true, None) if instance.network_interfaces != [id] => None,
            (true, None) => self.lend_public(),
            (true, had) => had,
            (false, _) => None,
        };
        if let Some(eni) = self.network_interfaces.get_mut(&id) {
            eni.public_ip = public_ip;
        }
    }

    /// The next address of the pool: whoever lost one doesn't get it back soon.
    fn lend_public(&mut self) -> Option<Ipv4Addr> {
        let number = |n: u32| Ipv4Addr::from(u32::from(POOL) + n % POOL_SIZE);
        let turn = (0..POOL_SIZE).map(|n| self.last_public.wrapping_add(n));
        let free = turn.into_iter().find(|n| self.holder_of_public(number(*n)).is_none())?;
        self.last_public = (free + 1) % POOL_SIZE;
        Some(number(free))
    }
}
