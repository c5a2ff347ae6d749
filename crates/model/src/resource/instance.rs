//! Instances.

use serde::{Deserialize, Serialize};

use super::{Origin, Tags};
use crate::id::*;

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whether it runs.
    pub state: InstanceState,
    /// What its guest looks like.
    pub image: Image,
    /// Its interfaces, by device index; gone when it is terminated.
    pub network_interfaces: Vec<NetworkInterfaceId>,
    /// Asked for a public address from Amazon's pool (IGW-8).
    pub associate_public_ip: bool,
    /// How it may ask for its metadata.
    pub metadata_options: MetadataOptions,
    /// What it was given for its first start, if anything; as it was written.
    pub user_data: Option<String>,
    /// When it was run, or started again, in RFC 3339.
    pub launch_time: String,
    /// Tags.
    pub tags: Tags,
    /// Where it came from.
    pub origin: Origin,
}

/// AWS's instance metadata options (IMDS-2, IMDS-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// `HttpEndpoint`: does the service answer it at all?
    pub http_endpoint: bool,
    /// `HttpTokens` is `required`: only who has a token is answered.
    pub http_tokens_required: bool,
    /// `HttpPutResponseHopLimit`: TTL of the packets that carry a token, 1 to 64.
    pub http_put_response_hop_limit: u8,
    /// `InstanceMetadataTags`: are tags told?
    pub instance_metadata_tags: bool,
}

impl Instance {
    /// Does its guest run?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == InstanceState::Running
    }

    /// Is it gone, and only still shown?
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state == InstanceState::Terminated
    }
}

/// AWS's instance state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InstanceState {
    /// Running.
    Running,
    /// Without a guest, but with its interfaces and addresses.
    Stopped,
    /// Gone, but still shown.
    Terminated,
}

impl InstanceState {
    /// As AWS prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Terminated => "terminated",
        }
    }
}

/// The part of a machine image that packets can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Image {
    /// Amazon Linux 2: TTL 255 (SEED-6).
    #[default]
    AmazonLinux2,
    /// Amazon Linux 2023: TTL 127.
    AmazonLinux2023,
    /// Ubuntu: TTL 64.
    Ubuntu,
}

impl Image {
    /// `net.ipv4.ip_default_ttl` in the guest.
    #[must_use]
    pub fn default_ttl(self) -> u8 {
        match self {
            Self::AmazonLinux2 => 255,
            Self::AmazonLinux2023 => 127,
            Self::Ubuntu => 64,
        }
    }

    /// The metadata options of instances that say nothing of them (IMDS-3).
    #[must_use]
    pub fn metadata_options(self) -> MetadataOptions {
        let v2 = self == Self::AmazonLinux2023;
        MetadataOptions {
            http_endpoint: true,
            http_tokens_required: v2,
            http_put_response_hop_limit: if v2 { 2 } else { 1 },
            instance_metadata_tags: false,
        }
    }
}
