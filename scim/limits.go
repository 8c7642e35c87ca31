package scim

import (
	"fmt"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Limits of a stored resource, whichever way it came about. The members of a
// group are no part of it, nor is what is never kept. The documentation tells them.
const (
	// MaxDocument is the size of a resource as JSON in bytes: what is larger could
	// not be sent back in a PUT.
	MaxDocument = MaxBody
	// MaxValues is how many values the lists of a resource have, all together.
	// Every change walks all of them, some of them several times.
	MaxValues = 5000
	// MaxKey is the size in bytes of a value that resources are found by. It fits
	// into a filter, whatever has to be escaped in it.
	MaxKey = 1000
)

// checkSize holds the attributes of a resource, and the JSON that is made of them, to the
// limits.
func checkSize(t *schemas.ResourceType, attrs map[string]any, doc []byte) error {
	if len(doc) <= MaxKey {
		return nil // which is below the others too: there is no room for what would be too much
	}
	var c census
	if err := c.object(t.Attributes(), attrs); err != nil {
		return err
	}
	if c.values > MaxValues {
		return &schemas.ValueError{Path: c.most.Path, Msg: fmt.Sprintf("the lists of a resource have at most %d values, all together", MaxValues)}
	}
	if len(doc) <= MaxDocument {
		return nil
	}
	var largest *schemas.Attribute
	most := 0
	for _, a := range t.Attributes() {
		if n := len(t.AppendJSON(nil, attrs, func(b *schemas.Attribute) bool { return b.Top() == a })); n > most {
			largest, most = a, n
		}
	}
	return &schemas.ValueError{Path: largest.Path, Msg: fmt.Sprintf("a resource has at most %d bytes, and this is the largest part of it", MaxDocument)}
}

// census counts the values of all lists.
type census struct {
	values  int
	most    *schemas.Attribute // the attribute with the longest list
	longest int
}

func (c *census) object(defs []*schemas.Attribute, attrs map[string]any) error {
	for _, a := range defs {
		v, ok := attrs[a.Name]
		if !ok || a.Detached || !a.Kept() || a.Name == "schemas" && a.Parent == nil {
			continue
		}
		if err := c.value(a, v); err != nil {
			return err
		}
	}
	return nil
}

func (c *census) value(a *schemas.Attribute, v any) error {
	switch v := v.(type) {
	case string:
		if len(v) > MaxKey && (storage.Unique(a) || storage.Indexed(a)) {
			return &schemas.ValueError{Path: a.Path, Msg: fmt.Sprintf("expected at most %d bytes", MaxKey)}
		}
	case map[string]any:
		return c.object(a.SubAttributes, v)
	case []any:
		n := 0
		for _, e := range v {
			if a.Leaves(e) {
				n++
			}
			if err := c.value(a, e); err != nil {
				return err
			}
		}
		c.values += n
		if n > c.longest {
			c.most, c.longest = a, n
		}
	}
	return nil
}
