//! Which addresses are the internet's, and which are somebody's own: loopback, link-local, private, shared, reserved,
//! multicast, and those at which clouds tell machines their secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks that are nobody's on the public internet (IANA's special-purpose registry), as address and prefix.
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // The platform's own server in every Azure machine's network; its address is a public one.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
];

/// IPv6 blocks within global unicast (`2000::/3`) that are not the internet's. What lies outside of it never is.
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    // Protocol assignments: Teredo, ORCHID, benchmarks.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4: an IPv4 address in disguise.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// How networks without IPv4 reach it: the last four bytes are the address.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    address: IpAddr,
    prefix: u8,
}

impl Block {
    /// The block of `prefix` bits around `address`; `None` when there are not as many bits.
    pub(super) fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// Whether `address`, an IPv4 address in its IPv6 form among them, lies in it.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(address)) => in_v4((block, self.prefix), address),
            (IpAddr::V6(block), IpAddr::V6(address)) => in_v6((block, self.prefix), address),
            _ => false,
        }
    }
}

fn in_v4((block, prefix): (Ipv4Addr, u8), address: Ipv4Addr) -> bool {
    let differing = block.to_bits() ^ address.to_bits();
    differing.leading_zeros() >= u32::from(prefix)
}

fn in_v6((block, prefix): (Ipv6Addr, u8), address: Ipv6Addr) -> bool {
    let differing = block.to_bits() ^ address.to_bits();
    differing.leading_zeros() >= u32::from(prefix)
}

/// Whether `address` is one of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) if in_v6(NAT64, address) => {
            let [.., a, b, c, d] = address.octets();
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        IpAddr::V6(address) => {
            in_v6(GLOBAL_V6, address) && !SPECIAL_V6.iter().any(|block| in_v6(*block, address))
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|block| in_v4(*block, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn what_is_somebodys_own_is_not_public() {
        let own = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
        ];
        for address in own {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn the_internet_is_public() {
        let internet = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ];
        for address in internet {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn a_block_holds_what_shares_its_prefix_and_nothing_else() {
        let block = |text: &str, prefix| Block::new(text.parse().unwrap(), prefix).unwrap();
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        assert!(block("10.0.0.0", 8).holds(address("10.255.0.1")));
        assert!(block("10.0.0.0", 8).holds(address("::ffff:10.0.0.1")));
        assert!(!block("10.0.0.0", 8).holds(address("11.0.0.1")));
        assert!(block("0.0.0.0", 0).holds(address("200.1.1.1")));
        assert!(block("fd00::", 8).holds(address("fd12::1")));
        assert!(!block("::", 0).holds(address("10.0.0.1")));
        assert!(Block::new(address("10.0.0.0"), 33).is_none());
    }
}
