//! Placement against golden vectors: those of the real Go system, and those of an independent program, `data/placement_vectors.py`.

use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};
use serde_json::Value;

const GO_SYSTEM: &str = include_str!("data/ring_vectors.json");
const INDEPENDENT: &str = include_str!("data/placement_vectors.json");

#[test]
fn go_seed_agrees_with_the_go_system_on_every_key() {
    let mut keys_seen = 0;
    for vector in list(&json(GO_SYSTEM), "vectors") {
        let name = text(vector, "name");
        let ring = ring(Placement::GoSeed, list(vector, "peers").iter().map(|peer| (string(peer), 1)));
        let (keys, owners) = (list(vector, "keys"), list(vector, "owner"));
        assert_eq!(keys.len(), owners.len(), "{name}");
        for (key, owner) in keys.iter().zip(owners) {
            assert_eq!(owner_of(&ring, string(key).as_bytes()), string(owner), "{name}: {key}");
            keys_seen += 1;
        }
        for (member, expected) in vector["owned_of_10000_decimal_keys"].as_object().expect("an object") {
            let owned =
                (0..10_000).filter(|key| owner_of(&ring, key.to_string().as_bytes()) == member).count();
            assert_eq!(Some(owned as u64), expected.as_u64(), "{name}: {member}");
        }
    }
    assert_eq!(keys_seen, 320);
}

#[test]
fn go_seed_keeps_the_order_that_members_were_added_in() {
    for vector in list(&json(GO_SYSTEM), "vectors") {
        let peers: Vec<_> = list(vector, "peers").iter().map(string).collect();
        let ring = ring(Placement::GoSeed, peers.iter().map(|&peer| (peer, 1)));
        assert_eq!(ring.members().iter().map(Member::name).collect::<Vec<_>>(), peers);
    }
}

#[test]
fn listing_members_the_other_way_round_moves_go_seed_keys_where_labels_collide() {
    let vectors = json(GO_SYSTEM);
    let collision = |vector: &&Value| text(vector, "name").starts_with("label-collision");
    let vector = list(&vectors, "vectors").iter().find(collision).expect("the vector on collisions");
    let peers = list(vector, "peers").iter().map(|peer| (string(peer), 1));
    let (forth, back) = (ring(Placement::GoSeed, peers.clone()), ring(Placement::GoSeed, peers.rev()));
    let keys = list(vector, "keys").iter().map(|key| string(key).as_bytes());
    // On the Go system 15 of these 100 keys change hands, too.
    assert_eq!(keys.filter(|key| owner_of(&forth, key) != owner_of(&back, key)).count(), 15);
    assert_ne!(forth.fingerprint(), back.fingerprint());
}

#[test]
fn owners_and_successors_agree_with_the_independent_program() {
    let vectors = json(INDEPENDENT);
    let mut places_seen = 0;
    for fleet in list(&vectors, "fleets") {
        let ring = fleet_ring(fleet);
        for place in list(fleet, "places") {
            let key = bytes(text(place, "key"));
            let order: Vec<_> = list(place, "order").iter().map(string).collect();
            assert_eq!(order.len(), ring.len());
            assert_eq!(owner_of(&ring, &key), order[0], "{:?} {place}", ring.placement());
            let successors: Vec<_> = ring.successors(&key).map(Member::name).collect();
            assert_eq!(successors, order, "{:?} {place}", ring.placement());
            places_seen += 1;
        }
    }
    assert!(places_seen > 300, "{places_seen}");
}

#[test]
fn fingerprints_agree_with_the_independent_program() {
    let vectors = json(INDEPENDENT);
    for fleet in list(&vectors, "fleets") {
        assert_eq!(
            format!("{:016x}", fleet_ring(fleet).fingerprint()),
            text(fleet, "fingerprint"),
            "{fleet}"
        );
    }
    for placement in Placement::ALL {
        let empty = Ring::empty(placement, RingEpoch::new(0));
        let expected = text(&vectors["empty_fingerprints"], placement.name());
        assert_eq!(format!("{:016x}", empty.fingerprint()), expected, "{placement}");
    }
}

#[test]
fn shares_agree_with_the_independent_program() {
    for fleet in list(&json(INDEPENDENT), "fleets") {
        let Some(owned) = fleet["slots_owned"].as_object() else { continue };
        let ring = fleet_ring(fleet);
        let slots: u64 = owned.values().map(|slots| slots.as_u64().expect("a count")).sum();
        for (name, count) in owned {
            let member = ring.by_name(name).expect("a member");
            let expected = count.as_u64().expect("a count") as f64 / slots as f64;
            assert_eq!(ring.share(member.id()), expected, "{name}");
        }
    }
}

fn fleet_ring(fleet: &Value) -> Ring {
    let placement = text(fleet, "placement").parse().expect("a scheme");
    let members = list(fleet, "members").iter();
    ring(placement, members.map(|member| (string(&member[0]), member[1].as_u64().expect("a weight") as u32)))
}

fn ring<'a>(placement: Placement, members: impl Iterator<Item = (&'a str, u32)>) -> Ring {
    let member = |((name, weight), id)| Member::new(PeerId::new(id), name).with_weight(weight);
    Ring::new(placement, RingEpoch::new(1), members.zip(0..).map(member).collect()).expect("a ring")
}

fn owner_of<'a>(ring: &'a Ring, key: &[u8]) -> &'a str {
    ring.owner(key).expect("an owner").name()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().expect("a list")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    string(&value[field])
}

fn string(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}
