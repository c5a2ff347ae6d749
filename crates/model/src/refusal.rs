//! Why the model refuses an operation, in AWS's words.

/// AWS's error codes, as the EC2 API spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are AWS's; their text is the message.
pub enum ErrorCode {
    AttachmentLimitExceeded,
    CannotDelete,
    ConflictingDomainExists,
    DependencyViolation,
    GatewayNotAttached,
    HostedZoneNotEmpty,
    IncorrectInstanceState,
    InsufficientFreeAddressesInSubnet,
    InvalidAllocationIdNotFound,
    InvalidAssociationIdNotFound,
    InvalidAttachmentIdNotFound,
    InvalidChangeBatch,
    InvalidDhcpOptionIdNotFound,
    InvalidDomainName,
    InvalidGroupDuplicate,
    InvalidGroupNotFound,
    InvalidHostIdNotFound,
    InvalidInstanceIdNotFound,
    InvalidInternetGatewayIdNotFound,
    InvalidIpAddressInUse,
    InvalidNetworkAclEntryNotFound,
    InvalidNetworkAclIdNotFound,
    InvalidNetworkInterfaceIdNotFound,
    InvalidNetworkInterfaceInUse,
    InvalidParameterCombination,
    InvalidParameterValue,
    InvalidPermissionDuplicate,
    InvalidPermissionNotFound,
    InvalidRouteNotFound,
    InvalidRouteTableIdNotFound,
    InvalidSubnetConflict,
    InvalidSubnetIdNotFound,
    InvalidSubnetRange,
    InvalidVpcIdNotFound,
    InvalidVpcRange,
    InvalidVpnConnectionIdNotFound,
    InvalidVpnGatewayIdNotFound,
    LastVpcAssociation,
    MissingParameter,
    NatGatewayNotFound,
    NetworkAclEntryAlreadyExists,
    NetworkAclEntryLimitExceeded,
    NoSuchHostedZone,
    OperationNotPermitted,
    PrivateIpAddressLimitExceeded,
    ResourceAlreadyAssociated,
    RouteAlreadyExists,
    RouteLimitExceeded,
    RulesPerSecurityGroupLimitExceeded,
    SecurityGroupsPerInterfaceLimitExceeded,
    VpcAssociationNotFound,
}

impl ErrorCode {
    /// The code as the API prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttachmentLimitExceeded => "AttachmentLimitExceeded",
            Self::CannotDelete => "CannotDelete",
            Self::ConflictingDomainExists => "ConflictingDomainExists",
            Self::DependencyViolation => "DependencyViolation",
            Self::GatewayNotAttached => "Gateway.NotAttached",
            Self::HostedZoneNotEmpty => "HostedZoneNotEmpty",
            Self::IncorrectInstanceState => "IncorrectInstanceState",
            Self::InsufficientFreeAddressesInSubnet => "InsufficientFreeAddressesInSubnet",
            Self::InvalidAllocationIdNotFound => "InvalidAllocationID.NotFound",
            Self::InvalidAssociationIdNotFound => "InvalidAssociationID.NotFound",
            Self::InvalidAttachmentIdNotFound => "InvalidAttachmentID.NotFound",
            Self::InvalidChangeBatch => "InvalidChangeBatch",
            Self::InvalidDhcpOptionIdNotFound => "InvalidDhcpOptionID.NotFound",
            Self::InvalidDomainName => "InvalidDomainName",
            Self::InvalidGroupDuplicate => "InvalidGroup.Duplicate",
            Self::InvalidGroupNotFound => "InvalidGroup.NotFound",
            Self::InvalidHostIdNotFound => "InvalidHostID.NotFound",
            Self::InvalidInstanceIdNotFound => "InvalidInstanceID.NotFound",
            Self::InvalidInternetGatewayIdNotFound => "InvalidInternetGatewayID.NotFound",
            Self::InvalidIpAddressInUse => "InvalidIPAddress.InUse",
            Self::InvalidNetworkAclEntryNotFound => "InvalidNetworkAclEntry.NotFound",
            Self::InvalidNetworkAclIdNotFound => "InvalidNetworkAclID.NotFound",
            Self::InvalidNetworkInterfaceIdNotFound => "InvalidNetworkInterfaceID.NotFound",
            Self::InvalidNetworkInterfaceInUse => "InvalidNetworkInterface.InUse",
            Self::InvalidParameterCombination => "InvalidParameterCombination",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::InvalidPermissionDuplicate => "InvalidPermission.Duplicate",
            Self::InvalidPermissionNotFound => "InvalidPermission.NotFound",
            Self::InvalidRouteNotFound => "InvalidRoute.NotFound",
            Self::InvalidRouteTableIdNotFound => "InvalidRouteTableID.NotFound",
            Self::InvalidSubnetConflict => "InvalidSubnet.Conflict",
            Self::InvalidSubnetIdNotFound => "InvalidSubnetID.NotFound",
            Self::InvalidSubnetRange => "InvalidSubnet.Range",
            Self::InvalidVpcIdNotFound => "InvalidVpcID.NotFound",
            Self::InvalidVpcRange => "InvalidVpc.Range",
            Self::InvalidVpnConnectionIdNotFound => "InvalidVpnConnectionID.NotFound",
            Self::InvalidVpnGatewayIdNotFound => "InvalidVpnGatewayID.NotFound",
            Self::LastVpcAssociation => "LastVPCAssociation",
            Self::MissingParameter => "MissingParameter",
            Self::NatGatewayNotFound => "NatGatewayNotFound",
            Self::NetworkAclEntryAlreadyExists => "NetworkAclEntryAlreadyExists",
            Self::NetworkAclEntryLimitExceeded => "NetworkAclEntryLimitExceeded",
            Self::NoSuchHostedZone => "NoSuchHostedZone",
            Self::OperationNotPermitted => "OperationNotPermitted",
            Self::PrivateIpAddressLimitExceeded => "PrivateIpAddressLimitExceeded",
            Self::ResourceAlreadyAssociated => "Resource.AlreadyAssociated",
            Self::RouteAlreadyExists => "RouteAlreadyExists",
            Self::RouteLimitExceeded => "RouteLimitExceeded",
            Self::RulesPerSecurityGroupLimitExceeded => "RulesPerSecurityGroupLimitExceeded",
            Self::SecurityGroupsPerInterfaceLimitExceeded => "SecurityGroupsPerInterfaceLimitExceeded",
            Self::VpcAssociationNotFound => "VPCAssociationNotFound",
        }
    }
}

/// An operation that wasn't done; the world is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Refusal {
    /// AWS's code.
    pub code: ErrorCode,
    /// AWS's text where it is known, else ours.
    pub message: String,
    /// The request parameter at fault, by AWS's name (`CidrBlock`); empty for the request as a whole.
    pub parameter: &'static str,
    /// Which of the parameter's values, from 0.
    pub number: usize,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, parameter: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), parameter, number: 0 }
    }

    /// An id that names nothing. AWS words this as «The KIND ID 'ID' does not exist».
    pub(crate) fn not_found(code: ErrorCode, parameter: &'static str, kind: &str, id: impl std::fmt::Display) -> Self {
        Self::new(code, parameter, format!("The {kind} ID '{id}' does not exist"))
    }
}
