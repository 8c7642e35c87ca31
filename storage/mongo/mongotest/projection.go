package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// projection keeps or leaves out fields of a document. As a tree it has a child
// for each step of the paths that were named; a leaf is such a path's end.
type projection struct {
	keep  bool // the named fields are kept, otherwise they are left out
	id    bool // _id is kept
	named projectionNode
}

type projectionNode map[string]projectionNode

// parseProjection returns nil when there is nothing to project.
func parseProjection(d bson.D) (*projection, error) {
	if len(d) == 0 {
		return nil, nil
	}
	p := &projection{id: true, named: projectionNode{}}
	decided := false
	var add func(prefix string, d bson.D) error
	add = func(prefix string, d bson.D) error {
		for _, e := range d {
			path := prefix + e.Key
			if nested, ok := e.Value.(bson.D); ok && len(nested) > 0 {
				if strings.HasPrefix(nested[0].Key, "$") {
					return refused("projection with " + nested[0].Key)
				}
				if err := add(path+".", nested); err != nil {
					return err
				}
				continue
			}
			keep, err := kept(e.Value)
			if err != nil {
				return err
			}
			if strings.Contains(path, "$") {
				return refused("positional projection")
			}
			if path == "_id" {
				p.id = keep
				continue
			}
			if decided && keep != p.keep {
				if keep {
					return errorf(projectionKeepsInsideExclude, "Cannot do inclusion on field %s in exclusion projection", path)
				}
				return errorf(projectionExcludesInsideKeep, "Cannot do exclusion on field %s in inclusion projection", path)
			}
			decided, p.keep = true, keep
			if !p.named.add(strings.Split(path, ".")) {
				return errorf(projectionPathCollision, "Path collision at %s", path)
			}
		}
		return nil
	}
	if err := add("", d); err != nil {
		return nil, err
	}
	if !decided { // only _id was named
		p.keep = p.id
	}
	return p, nil
}

func kept(v any) (bool, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case int32, int64, float64:
		f, _ := number(v)
		return f != 0, nil
	}
	return false, refused("projection by expression")
}

// add reports whether the path neither contains nor continues another one.
func (n projectionNode) add(path []string) bool {
	child, ok := n[path[0]]
	switch {
	case len(path) == 1:
		n[path[0]] = nil
		return !ok
	case !ok:
		child = projectionNode{}
		n[path[0]] = child
	case child == nil:
		return false
	}
	return child.add(path[1:])
}

func (p *projection) apply(d bson.D) bson.D {
	out := make(bson.D, 0, len(d))
	for _, e := range d {
		if e.Key == "_id" {
			if p.id {
				out = append(out, e)
			}
			continue
		}
		if v, ok := p.field(p.named, e); ok {
			out = append(out, bson.E{Key: e.Key, Value: v})
		}
	}
	return out
}

func (p *projection) field(n projectionNode, e bson.E) (any, bool) {
	child, named := n[e.Key]
	switch {
	case !named:
		return e.Value, !p.keep
	case child == nil:
		return e.Value, p.keep
	}
	return p.below(child, e.Value)
}

// below projects a value that named paths go through. A value they cannot
// enter holds none of the fields that are kept, and all that are not left out.
func (p *projection) below(n projectionNode, v any) (any, bool) {
	switch v := v.(type) {
	case bson.D:
		out := make(bson.D, 0, len(v))
		for _, e := range v {
			if x, ok := p.field(n, e); ok {
				out = append(out, bson.E{Key: e.Key, Value: x})
			}
		}
		return out, true
	case bson.A:
		out := make(bson.A, 0, len(v))
		for _, e := range v {
			if x, ok := p.below(n, e); ok {
				out = append(out, x)
			}
		}
		return out, true
	}
	return v, !p.keep
}
