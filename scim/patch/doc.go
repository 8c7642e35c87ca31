// Package patch applies a PATCH request (RFC 7644 §3.5.2) to the attributes of a
// resource. It is pure: no database, no HTTP, no clock.
//
// [Decode] reads the PatchOp message into a list of [Operation]; [Apply] walks
// that list over a copy of the stored tree. A path goes through
// [filter.ParsePath] and becomes a target: an attribute, or the elements of one
// that a filter selects. Every write ends in one function, assign, which enforces
// mutability and required; [schemas.ResourceType.Finish] checks the result as a
// whole. The first operation that fails is returned as an [Error], and nothing is
// changed.
//
// Members of a group are not in the tree. Operations on them come out as a list
// of [MemberChange], whose cost does not depend on the size of the group.
//
// Where the RFC leaves a choice:
//
//   - Add and replace on a single complex value write the sub-attributes they
//     give and leave the others alone. So does an add on the elements a filter
//     selects; a replace there takes the place of the whole element.
//   - Add to a list merges an element into the one with the same type and value.
//     An element without a value is a duplicate when all of it is equal.
//   - emails.value, without a filter, means the value of every element; an add
//     to it appends an element for each new value.
//   - In Lenient mode an element whose sub-attribute is removed disappears if nothing
//     but type, primary and display is left of it.
//   - Setting primary on one element sets it to false on the others.
//   - null, [] and, in Lenient mode, "" unset the attribute they are written to. A
//     missing value is an error, so nothing is cleared by accident.
//   - Removing a required attribute is a mutability error (§3.5.2.2); unsetting
//     it with add or replace is invalidValue.
//   - A new value of a reference takes the old $ref with it, unless the request
//     writes $ref too.
//   - A remove that finds nothing succeeds, except that in Strict mode a filter
//     must match (noTarget). For a filter on members, only storage knows.
//
// Lenient mode accepts deviations that clients really send. They are in quirks.go,
// each with its client; Strict mode accepts none of them. Begin with
// apply.go.
package patch
