// Package filter is the filter language of RFC 7644 §3.4.2.2 and the PATCH path
// of §3.5.2, bound to a schema.
//
// [Parse] reads a filter into an [Expr] whose attributes are those of the
// resource type, whose values have the attributes' types, and whose strings are
// in the form in which they are compared. Nothing is left to find out later: an
// attribute nobody defined, one that may not be read, an operator that does not
// fit the type or a value of another type is a [*SyntaxError] with its offset.
// An error names attributes but never quotes values. [ParsePath] does the same
// for a PATCH path.
//
// [Expr.Match] defines what a filter means. Storage backends translate the Expr,
// a small closed set of types, and must agree with Match:
//
//   - Of a single-valued attribute ne is the exact negation of eq, so a missing
//     value satisfies ne and no other operator.
//   - A path with a multi-valued attribute on it asks for one element that
//     satisfies the comparison. For ne an element without the sub-attribute
//     does; without any element nothing does, not even ne. Where a multi-valued
//     attribute holds another, the elements of the inner one are meant.
//   - attr[filter] asks for one element that satisfies the whole filter.
//   - pr asks for a value other than "", an empty list and an empty object. What
//     may not be read does not count.
//   - Strings are compared in the form [schemas.Attribute.Key] gives them and
//     ordered by their bytes. Every string, "" included, contains "".
//
// Beyond the RFC two spellings are understood that clients send:
// emails[type eq "work"].value eq "x" is emails[type eq "work" and value eq "x"],
// and a boolean may be in quotes and in any case. A comparison with a complex
// attribute is one with its value sub-attribute; one with null is pr or its
// negation.
//
// The text passes from lex.go (bytes to words and literals) through parse.go
// (grammar and binding) into the types of expr.go; match.go and print.go walk
// those, and path.go is PATCH's part. Limits are checked before anything they
// bound is done. Begin with expr.go.
package filter
