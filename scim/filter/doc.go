// Package filter is the filter language of RFC 7644 §3.4.2.2 and the PATCH path
// of §3.5.2, bound to a schema.
//
// [Parse] reads a filter into an [Expr] whose attributes are those of the
// resource type, whose values have the attributes' types, and whose strings are
// in the form in which they are compared. All errors are found here: an undefined
// attribute, one that may not be read, an operator that does not fit the type or a
// value of another type is a [*SyntaxError] with its offset. Errors name
// attributes but never quote values. [ParsePath] does the same
// for a PATCH path.
//
// [Expr.Match] defines what a filter means. Storage backends translate the Expr,
// a small closed set of types, and must agree with Match:
//
//   - For a single-valued attribute, ne is the exact negation of eq, so a missing
//     value satisfies ne and no other operator.
//   - A path through a multi-valued attribute matches if one element satisfies the
//     comparison. An element without the sub-attribute satisfies ne; if there are no
//     elements, nothing matches, not even ne. If a multi-valued attribute contains
//     another, the elements of the inner one are meant.
//   - attr[filter] matches if one element satisfies the whole filter.
//   - pr matches a value other than "", an empty list and an empty object.
//     Attributes that may not be read do not count.
//   - Strings are compared in the form of [schemas.Attribute.Key] and ordered by
//     their bytes. Every string, "" included, contains "".
//
// Beyond the RFC, two spellings are accepted because clients send them:
// emails[type eq "work"].value eq "x" is emails[type eq "work" and value eq "x"],
// and a boolean may be in quotes and in any case. A comparison with a complex
// attribute compares its value sub-attribute; a comparison with null is pr or its
// negation.
//
// The text passes from lex.go (bytes to words and literals) through parse.go
// (grammar and binding) into the types of expr.go; match.go and print.go walk
// those, and path.go is PATCH's part. Limits are checked before the work
// that they bound. Begin with expr.go.
package filter
