package scim

import (
	"strings"

	"github.com/roster-id/roster/schemas"
)

// Deprovisioning says whether a request to a route takes somebody's access away, which
// goes before all else when there is more to do than can be done.
type Deprovisioning uint8

const (
	// DeprovisionsNever is a route like any other.
	DeprovisionsNever Deprovisioning = iota
	// DeprovisionsAlways is a route that deletes users.
	DeprovisionsAlways
	// DeprovisionsByBody is a route that does if the body of the request says so; see
	// Deactivates.
	DeprovisionsByBody
)

// Deactivates reports whether the body of a PUT or PATCH of a user leaves active false. It
// only decides how soon the request is served: what cannot be read, or is no acceptable
// request, does not.
func Deactivates(body []byte) bool {
	tree, err := schemas.Decode(body, BodyLimits)
	if err != nil {
		return false
	}
	message, _ := tree.(map[string]any)
	operations, isPatch := named(message, "Operations").([]any)
	if !isPatch {
		return isFalse(named(message, "active"))
	}
	off := false
	for _, o := range operations { // the last one that says anything about it counts
		o, _ := o.(map[string]any)
		path, _ := named(o, "path").(string)
		value := named(o, "value")
		op, _ := named(o, "op").(string)
		switch {
		case strings.EqualFold(op, "remove"):
			continue
		case path == "":
			attrs, _ := value.(map[string]any)
			if value = named(attrs, "active"); value == nil {
				value = named(attrs, schemas.UserURI+":active")
			}
		case !strings.EqualFold(path, "active") && !strings.EqualFold(path, schemas.UserURI+":active"):
			continue
		}
		if value != nil {
			off = isFalse(value)
		}
	}
	return off
}

// named returns what an object has under a name, whatever its case, or nil.
func named(o map[string]any, name string) any {
	for n, v := range o {
		if strings.EqualFold(n, name) {
			return v
		}
	}
	return nil
}

// isFalse is lenient as schemas.Lenient is.
func isFalse(v any) bool {
	s, _ := v.(string)
	return v == false || strings.EqualFold(s, "false")
}
