// Package schemas is RFC 7643 as data: the schemas Roster serves, their
// attributes with every characteristic, and the attribute trees that resources
// are made of.
//
// A [ResourceType] is compiled, at start from the JSON files embedded here, and with
// what a tenant defines by [Set.With] (custom.go). Both pass through elimity's schema
// model (elimity.go), so a definition that model refuses is never served; what the rest
// of Roster walks is the compiled [Attribute], which knows its parent, its schema and
// its path.
//
// A resource travels as an attribute tree: map[string]any with canonical names,
// whose values are string, bool, int64, float64, []any and map[string]any. The
// way in is [Decode] (bytes to a raw tree, with the limits that keep a hostile
// body small) followed by [ResourceType.Bind] (a raw tree to one that fits the
// schema); the way out is [ResourceType.AppendJSON].
//
// What [Load] and Set.With return never changes and is safe for concurrent use.
//
// Begin with attribute.go; validate.go holds the rules of RFC 7643 §2.
package schemas
