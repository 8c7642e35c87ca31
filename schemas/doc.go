// Package schemas is RFC 7643 as data: the schemas Roster serves, their
// attributes with every characteristic, and the attribute trees that resources
// are made of.
//
// A [ResourceType] is compiled: at start from the JSON files embedded here, and by
// [Set.With] together with the definitions of a tenant (custom.go). Both pass through
// elimity's schema model (elimity.go), so a definition that this model refuses is never
// served. The rest of Roster uses the compiled [Attribute], which knows its parent, its
// schema and its path.
//
// A resource travels as an attribute tree: map[string]any with canonical names,
// whose values are string, bool, int64, float64, []any and map[string]any. The
// way in is [Decode] (bytes to a raw tree, within limits that bound the cost of a
// hostile body) followed by [ResourceType.Bind] (a raw tree to one that fits the
// schema); the way out is [ResourceType.AppendJSON].
//
// What [Load] and Set.With return never changes and is safe for concurrent use.
//
// Begin with attribute.go; validate.go holds the rules of RFC 7643 §2.
package schemas
