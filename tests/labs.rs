//! Labs as their users have them: the built binary, real namespaces, real tools.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "articles/addresses.rs"]
mod addresses;
#[path = "scenarios/capture.rs"]
mod capture;
#[path = "scenarios/changes.rs"]
mod changes;
#[path = "scenarios/crashes.rs"]
mod crashes;
#[path = "articles/failover.rs"]
mod failover;
#[path = "articles/ingress_routing.rs"]
mod ingress_routing;
#[path = "scenarios/inside_one_vpc.rs"]
mod inside_one_vpc;
#[path = "scenarios/interfaces.rs"]
mod interfaces;
#[path = "articles/internet_gateway.rs"]
mod internet_gateway;
mod lab;
#[path = "scenarios/life.rs"]
mod life;
#[path = "scenarios/link.rs"]
mod link;
#[path = "scenarios/machine.rs"]
mod machine;
#[path = "scenarios/metadata.rs"]
mod metadata;
#[path = "articles/nat_gateway_east_west.rs"]
mod nat_gateway_east_west;
#[path = "scenarios/private_dns.rs"]
mod private_dns;
#[path = "scenarios/site_to_site_vpn.rs"]
mod site_to_site_vpn;
#[path = "scenarios/subnet_services.rs"]
mod subnet_services;
#[path = "scenarios/two_tier_web.rs"]
mod two_tier_web;
