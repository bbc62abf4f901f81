package safehttp

import "net/netip"

// denied are the ranges that netip's own predicates do not name and that nothing on the internet may send us to:
// "this network", carrier-grade NAT (Alibaba's metadata service among it), protocol assignments (Oracle's), examples,
// 6to4 relays, benchmarks, what is reserved, and Azure's host service, whose address is public in form only.
var denied = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4", "168.63.129.16/32",
	// Within IPv6's global range: special purposes with Teredo among them, 6to4, examples.
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var (
	globalIPv6 = netip.MustParsePrefix("2000::/3")
	// nat64 is the well-known prefix under which an IPv6-only network reaches IPv4: the last four bytes are what counts.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Public reports whether addr is an ordinary address of the internet: not this machine, not a private or link-local
// network, no cloud's metadata service, no multicast, and none of the forms of IPv6 that wrap such an address.
func Public(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	addr = addr.Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	}
	if addr.Is6() && !globalIPv6.Contains(addr) {
		return false
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() {
		return false
	}
	for _, p := range denied {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}
