package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Effect is what an act does to a resource.
type Effect uint8

// The effects. The zero Effect is none and is never permitted.
const (
	Read Effect = iota + 1
	Write
)

// String returns "read" or "write".
func (e Effect) String() string {
	switch e {
	case Read:
		return "read"
	case Write:
		return "write"
	}
	return "none"
}

// May reports whether the principal may have this effect on resources of the
// type with this name ("User", "Group") in its own tenant. It is false for the
// zero Principal, for one without a tenant, and for whatever it does not know.
func (p Principal) May(e Effect, resourceType string) bool {
	if p.Tenant == "" || resourceType == "" || (e != Read && e != Write) {
		return false
	}
	switch p.Kind {
	case Operator:
		return true
	case Client:
		for _, c := range catalogue {
			if c.resourceType == resourceType {
				return p.ID != "" && p.Scopes&c.scope(e) != 0
			}
		}
	}
	return false
}

// Scopes is a set of scopes. The zero Scopes is empty and permits nothing.
//
// A scope is the name of a kind of resource, "users" or "groups", alone or with
// ":read" or ":write". Alone it means both. As every write answers with the
// resource it wrote, ":write" includes ":read", and "users:write" is another
// way to say "users".
type Scopes uint8

// catalogue lists the scopes by name.
var catalogue = []scopeEntry{
	{"groups", "Group", 0b0001, 0b0010},
	{"users", "User", 0b0100, 0b1000},
}

type scopeEntry struct {
	name, resourceType string
	read, write        Scopes
}

func (c scopeEntry) scope(e Effect) Scopes {
	if e == Write {
		return c.write
	}
	return c.read
}

// ScopeNames returns every way to spell a scope, sorted.
func ScopeNames() []string {
	var names []string
	for _, c := range catalogue {
		names = append(names, c.name, c.name+":read", c.name+":write")
	}
	return names
}

// UnknownScopeError says that a scope does not exist.
type UnknownScopeError struct{ Scope string }

func (e *UnknownScopeError) Error() string {
	return fmt.Sprintf("unknown scope %q; valid are %s", e.Scope, strings.Join(ScopeNames(), ", "))
}

// ParseScopes makes a set of scopes, each of which may also be a list separated
// by commas. Spaces around a scope do not count; empty ones are left out. The
// error is an *UnknownScopeError.
func ParseScopes(list []string) (Scopes, error) {
	var set Scopes
	for _, item := range list {
		for name := range strings.SplitSeq(item, ",") {
			name = strings.TrimSpace(name)
			if name == "" {
				continue
			}
			s := parseScope(name)
			if s == 0 {
				return 0, &UnknownScopeError{name}
			}
			set |= s
		}
	}
	return set, nil
}

// parseScope returns what a scope stands for, or none if it does not exist.
func parseScope(s string) Scopes {
	name, effect, narrowed := strings.Cut(s, ":")
	i := slices.IndexFunc(catalogue, func(c scopeEntry) bool { return c.name == name })
	switch {
	case i < 0:
		return 0
	case !narrowed || effect == "write":
		return catalogue[i].read | catalogue[i].write
	case effect == "read":
		return catalogue[i].read
	}
	return 0
}

// Strings returns the set in canonical form: sorted, each kind of resource at
// most once. ParseScopes reads it back.
func (s Scopes) Strings() []string {
	names := make([]string, 0, len(catalogue))
	for _, c := range catalogue {
		switch {
		case s&c.write != 0:
			names = append(names, c.name)
		case s&c.read != 0:
			names = append(names, c.name+":read")
		}
	}
	return names
}

// String returns the canonical form with commas between.
func (s Scopes) String() string { return strings.Join(s.Strings(), ",") }
