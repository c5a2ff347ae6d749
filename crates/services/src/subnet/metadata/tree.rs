//! What an instance can read of itself: values by their paths. A path to several of them lists what is there.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minivpc_model::{Image, Instance, NetworkInterface, Refusal, SecurityGroup, Tags, Vpc, World};
use serde_json::json;

use crate::subnet::Lab;

/// Versions that are understood; all say the same.
const VERSIONS: [&str; 29] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
    "latest",
];
const SIGNATURE: &str = "dynamic/instance-identity/signature";
/// What the lab's account is called.
const ACCOUNT: &str = "123456789012";
const TYPE: &str = "t3.micro";

/// A value, or the names below a path: a name with more below ends with a slash.
pub fn read(world: &World, instance: &Instance, lab: &dyn Lab, path: &str) -> Option<String> {
    // As AWS's server, whatever slashes there are too many of.
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let Some(version) = names.next() else { return Some(VERSIONS.join("\n")) };
    if !VERSIONS.contains(&version) {
        return None;
    }
    let path = names.collect::<Vec<_>>().join("/");
    let values = values(world, instance, lab, &path).ok()?;
    values.get(&path).cloned().or_else(|| list(&values, &path))
}

fn list(values: &BTreeMap<String, String>, path: &str) -> Option<String> {
    let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
    let below = values.keys().filter_map(|key| key.strip_prefix(&inside));
    let name = |rest: &'_ str| {
        let name = rest.split_inclusive('/').next().unwrap_or_default();
        // What a version has is listed without slashes.
        if path.is_empty() { name.trim_end_matches('/').to_owned() } else { name.to_owned() }
    };
    let names: BTreeSet<_> = below.map(name).collect();
    (!names.is_empty()).then(|| names.into_iter().collect::<Vec<_>>().join("\n"))
}

/// All values; that of [`SIGNATURE`], which takes a while, only for who asks for it.
fn values(world: &World, instance: &Instance, lab: &dyn Lab, path: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let mut values = BTreeMap::new();
    let enis = instance.network_interfaces.iter().map(|id| world.network_interface(*id));
    let enis: Vec<_> = enis.collect::<Result<_, _>>()?;
    let Some(primary) = enis.first() else { return Ok(values) };
    let subnet = world.subnet(primary.subnet)?;
    let vpc = world.vpc(subnet.vpc)?;
    let zone = &subnet.availability_zone;
    let name = world.name_of_instance_at(vpc, primary.private_ip);
    let document = document(instance, primary, zone, vpc);
    let mut put = |path: &str, value: &str| _ = values.insert(path.to_owned(), value.to_owned());
    let signature = if path == SIGNATURE { lab.sign(document.as_bytes()) } else { Vec::new() };
    put(SIGNATURE, &STANDARD.encode(signature));
    put("dynamic/instance-identity/document", &document);
    if let Some(data) = &instance.user_data {
        put("user-data", data);
    }
    let mut put = |path: &str, value: &str| _ = values.insert(format!("meta-data/{path}"), value.to_owned());
    put("ami-id", ami(instance.image));
    put("ami-launch-index", "0");
    put("ami-manifest-path", "(unknown)");
    put("block-device-mapping/ami", "/dev/xvda");
    put("block-device-mapping/root", "/dev/xvda");
    put("events/maintenance/history", "[]");
    put("events/maintenance/scheduled", "[]");
    put("hostname", &name);
    put("instance-action", "none");
    put("instance-id", &instance.id.to_string());
    put("instance-life-cycle", "on-demand");
    put("instance-type", TYPE);
    put("local-hostname", &name);
    put("local-ipv4", &primary.private_ip.to_string());
    put("mac", &primary.mac.to_string());
    put("placement/availability-zone", zone);
    put("placement/availability-zone-id", &zone_id(&vpc.region, zone));
    put("placement/region", &vpc.region);
    put("profile", "default-hvm");
    put("reservation-id", &instance.id.to_string().replace("i-", "r-"));
    put("security-groups", &lines(groups(world, primary)?.iter().map(|group| group.name.clone())));
    put("services/domain", "amazonaws.com");
    put("services/partition", "aws");
    put("system", "nitro");
    if let Some(public) = world.public_address_of(primary.id, primary.private_ip) {
        put("public-ipv4", &public.to_string());
        vpc.public_dns_name(public).into_iter().for_each(|name| put("public-hostname", &name));
    }
    if instance.metadata_options.instance_metadata_tags {
        let Tags(tags) = &instance.tags;
        tags.iter().for_each(|(key, value)| put(&format!("tags/instance/{key}"), value));
    }
    for eni in enis {
        for (path, value) in of_interface(world, eni)? {
            put(&format!("network/interfaces/macs/{}/{path}", eni.mac), &value);
        }
    }
    Ok(values)
}

fn of_interface(world: &World, eni: &NetworkInterface) -> Result<Vec<(String, String)>, Refusal> {
    let subnet = world.subnet(eni.subnet)?;
    let vpc = world.vpc(subnet.vpc)?;
    let groups = groups(world, eni)?;
    let public = eni.addresses().filter_map(|own| Some((own, world.public_address_of(eni.id, own)?)));
    let public: Vec<_> = public.collect();
    let mut values = vec![
        ("device-number", eni.device_index().unwrap_or_default().to_string()),
        ("interface-id", eni.id.to_string()),
        ("local-hostname", world.name_of_instance_at(vpc, eni.private_ip)),
        ("local-ipv4s", lines(eni.addresses().map(|address| address.to_string()))),
        ("mac", eni.mac.to_string()),
        ("owner-id", ACCOUNT.to_owned()),
        ("security-group-ids", lines(groups.iter().map(|group| group.id.to_string()))),
        ("security-groups", lines(groups.iter().map(|group| group.name.clone()))),
        ("subnet-id", subnet.id.to_string()),
        ("subnet-ipv4-cidr-block", subnet.cidr.to_string()),
        ("vpc-id", vpc.id.to_string()),
        ("vpc-ipv4-cidr-block", vpc.cidr.to_string()),
        ("vpc-ipv4-cidr-blocks", vpc.cidr.to_string()),
    ];
    if let Some((_, first)) = public.first() {
        values.extend(vpc.public_dns_name(*first).map(|name| ("public-hostname", name)));
        values.push(("public-ipv4s", lines(public.iter().map(|(_, address)| address.to_string()))));
    }
    let associations = public.iter().map(|(own, public)| (format!("ipv4-associations/{public}"), own.to_string()));
    Ok(values.into_iter().map(|(path, value)| (path.to_owned(), value)).chain(associations).collect())
}

fn groups<'a>(world: &'a World, eni: &NetworkInterface) -> Result<Vec<&'a SecurityGroup>, Refusal> {
    eni.groups.iter().map(|id| world.security_group(*id)).collect()
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join("\n")
}

/// The zone's name for all accounts: `apne1-az2` of `ap-northeast-1b`, if the lab's account is the first.
fn zone_id(region: &str, zone: &str) -> String {
    let short = |part: &str| match part {
        "gov" => "g".to_owned(),
        "northeast" => "ne".to_owned(),
        "southeast" => "se".to_owned(),
        "northwest" => "nw".to_owned(),
        "southwest" => "sw".to_owned(),
        "north" | "south" | "east" | "west" | "central" => part[..1].to_owned(),
        part => part.to_owned(),
    };
    let region_id: String = region.split('-').map(short).collect();
    let letter = zone.bytes().last().unwrap_or(b'a');
    format!("{region_id}-az{}", letter.saturating_sub(b'a') + 1)
}

/// Nobody has made these images: their ids only tell them apart.
fn ami(image: Image) -> &'static str {
    match image {
        Image::AmazonLinux2 => "ami-00000000000000002",
        Image::AmazonLinux2023 => "ami-00000000000002023",
        Image::Ubuntu => "ami-00000000000002404",
    }
}

/// The instance identity document.
fn document(instance: &Instance, primary: &NetworkInterface, zone: &str, vpc: &Vpc) -> String {
    let document = json!({
        "accountId": ACCOUNT,
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" },
        "availabilityZone": zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": ami(instance.image),
        "instanceId": instance.id.to_string(),
        "instanceType": TYPE,
        "kernelId": null,
        "pendingTime": instance.launch_time,
        "privateIp": primary.private_ip.to_string(),
        "ramdiskId": null,
        "region": vpc.region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}
