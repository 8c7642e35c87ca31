// Package scim is the service provider of RFC 7644.
//
// A request enters through [Handler.Routes], becomes a call on [Provider], and
// leaves as JSON or an [Error]. Provider is the one door for changes and knows no
// HTTP: it binds what was sent to the schema, asks whether the principal may, and
// writes the resource, its audit entry and its event in one step. handler.go is
// the HTTP side: media types, limits, preconditions, and responses that are made
// from stored documents and streamed.
//
//   - provider.go: create, get, query, replace, patch, delete; create.go, update.go and
//     delete.go: how; members.go: what a change of the members of a group means
//   - decision.go: what a write would do to whom; roles.go: roles and their
//     assignments; builtin.go: those that are not stored
//   - changes.go: what the audit trail tells of a change
//   - contains.go: roles in roles; vocabulary.go: entitlements, and which words users may
//     have, and lose; okta.go: both as Okta has them
//   - account.go: a user with groups and roles in one write; founding.go: the first one of
//     a tenant; invite.go, invitation.go and acceptance.go: one who is asked to come
//   - deletion.go: what is remembered of who is deleted; deleted.go: who that is, restore.go:
//     how they come back, purge.go: or go for good; reports.go: users who refer to who goes
//     and comes
//   - definition.go: schemas and resource types of a tenant's own; custom.go: those
//     of a tenant, and that a write keeps to them
//   - me.go: the resource of whoever asks (§3.11)
//   - user.go: what the schemas alone do not say of a user; rename.go: other user names for many
//   - reference.go: managers and members have to be there; late.go: or come later, for
//     clients that may refer to them before that; waiting.go: what waits until then, and
//     arrival.go: what becomes of it
//   - membership.go: members of groups as resources; list.go: lists of one type, across.go:
//     over all types
//   - cursor.go: places of walks (RFC 9865); delta.go: what changed since
//   - bulk.go: many operations in a request (§3.7), bulk_run.go: which of them are under
//     way together; async.go: those that are carried out after the answer, and step.go:
//     what of them is done
//   - body.go: bodies within their limits; limits.go: those of what is stored; place.go and
//     deprovisioning.go: what a server that has too much to do asks of a route
//   - search.go: what a list was asked for (§3.4.2, §3.4.3)
//   - resource.go: a resource to JSON, attributes and excludedAttributes (§3.9); written.go:
//     what a client named in what it wrote; stream.go: how it is sent; represent.go: for
//     others than clients
//   - manager.go: where a user's manager is and what it is called (RFC 7643 §4.3)
//   - assignment.go: what the role and principal of an assignment are called
//   - etag.go: versions and preconditions (§3.14)
//   - media.go: the media type of an answer (§3.1)
//   - discovery.go: what this server claims to do (§4, RFC 7643 §5–§7)
//   - errors.go: the one table from Go errors to status and scimType (§3.12); exchange.go:
//     what is told of a request that was refused, and redact.go: without its values
//   - restored.go: what of a backup is left out
//
// The odd corners of PATCH (§3.5.2) are in scim/patch, the filter language
// (§3.4.2.2) in scim/filter. Begin with provider.go.
package scim
