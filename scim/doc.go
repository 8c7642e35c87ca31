// Package scim is the service provider of RFC 7644.
//
// A request enters through [Handler.Routes], becomes a call on [Provider], and
// leaves as JSON or an [Error]. All changes go through Provider, which knows no
// HTTP: it binds the request to the schema, checks that the principal is
// permitted, and writes the resource, its audit entry and its event in one step.
// handler.go is the HTTP side: media types, limits, preconditions, and responses
// that are made from stored documents and streamed.
//
// Reading and writing resources:
//
//   - provider.go: create, get, query, replace, patch, delete; create.go, update.go
//     and delete.go implement them
//   - members.go: what a change of the members of a group means; membership.go:
//     memberships as resources
//   - me.go: the resource of the caller (§3.11)
//   - user.go: rules for users beyond the schemas; manager.go: the address and name
//     of a user's manager (RFC 7643 §4.3); rename.go: new user names for many users
//   - reference.go: managers and members have to exist; late.go: or may come later,
//     for clients with that setting; waiting.go: references that wait for their
//     target; arrival.go: how they are resolved
//   - limits.go: limits of stored resources
//
// Permissions, roles and accounts:
//
//   - decision.go: the effects of a write, which decide whether it is permitted
//   - roles.go: roles and their assignments; builtin.go: the built-in roles, which
//     are not stored; contains.go: roles in roles; assignment.go: the display names
//     in an assignment
//   - vocabulary.go: entitlements, and which values users may have; okta.go: roles
//     and entitlements in Okta's form
//   - account.go: a user with groups and roles in one write; founding.go: the first
//     user of a tenant; invite.go, invitation.go and acceptance.go: invitations
//   - changes.go: what the audit trail says about a change
//
// Deletion and custom types:
//
//   - deletion.go: what is kept of a deleted resource; deleted.go: lists of them;
//     restore.go and purge.go: how they come back, or are removed for good;
//     reports.go: direct reports when their manager is deleted or restored
//   - restored.go: what a restore from a backup leaves out
//   - definition.go: how a tenant's schemas and resource types are defined and
//     changed; custom.go: the types of a tenant, and that writes keep to them
//
// Lists and Bulk:
//
//   - search.go: the parameters of a list (§3.4.2, §3.4.3); list.go: lists of one
//     type; across.go: lists over all types
//   - cursor.go: paging by cursor (RFC 9865); delta.go: changes since a token
//   - bulk.go: many operations in a request (§3.7); bulk_run.go: which of them run
//     at the same time; async.go: bulk requests that are carried out after the
//     response; step.go: their progress
//
// Requests and responses:
//
//   - body.go: reading bodies within limits; media.go: media types (§3.1);
//     etag.go: versions and preconditions (§3.14)
//   - resource.go: resources as JSON, attributes and excludedAttributes (§3.9);
//     written.go: the attributes that a client named in its write; stream.go:
//     streaming; represent.go: resources for callers other than clients
//   - discovery.go: what this server supports (§4, RFC 7643 §5–§7)
//   - place.go and deprovisioning.go: what admission under load needs to know of a
//     request: when it gives its place back, and whether it deactivates a user
//   - errors.go: the one table from Go errors to status and scimType (§3.12);
//     exchange.go: what the provisioning log is told about a refused request;
//     redact.go: without its values
//
// The details of PATCH (§3.5.2) are in scim/patch, the filter language
// (§3.4.2.2) in scim/filter. Begin with provider.go.
package scim
