package domains

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// defaultSuffix is that of the domain that every tenant has. RFC 2606 keeps it from being
// anybody's.
const defaultSuffix = ".roster.invalid"

// Default is the domain that a tenant has from the beginning.
func Default(tenant storage.TenantID) string { return string(tenant) + defaultSuffix }

// Normalize returns the form in which a domain is kept: lower case, in ASCII (IDNA2008).
// The error is an *auth.InvalidError for what is no host name below a public suffix.
func Normalize(name string) (string, error) {
	refuse := func(expected string) (string, error) {
		return "", &auth.InvalidError{Member: "name", Expected: expected}
	}
	name = strings.TrimSuffix(strings.TrimSpace(name), ".")
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil || !validHost(ascii) {
		return refuse("a domain such as example.com")
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return refuse("a domain, not an address")
	}
	for _, reserved := range []string{"invalid", "localhost", "local", "arpa", "onion"} {
		if ascii == reserved || strings.HasSuffix(ascii, "."+reserved) {
			return refuse("a domain that can be somebody's")
		}
	}
	if _, err := publicsuffix.EffectiveTLDPlusOne(ascii); err != nil {
		return refuse("a domain of one's own, below a public suffix such as com or co.uk")
	}
	return ascii, nil
}

// validHost reports whether a name is made of at least two labels as hosts have them.
func validHost(name string) bool {
	if len(name) > 253-len(challengeLabel) || !strings.Contains(name, ".") {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return true
}

// Under splits a user name or an address at its last @, and reports whether what follows
// is the domain, in whatever spelling.
func Under(name, domain string) (local string, ok bool) {
	i := strings.LastIndexByte(name, '@')
	if i < 1 {
		return "", false
	}
	local, host := name[:i], name[i+1:]
	if schemas.Fold(host) == domain {
		return local, true
	}
	ascii, err := idna.Lookup.ToASCII(host)
	return local, err == nil && ascii == domain
}
