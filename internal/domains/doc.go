// Package domains manages the domains of each tenant: they are added, verified by a DNS TXT
// record and made primary (domain.go), and user names are moved from one to another
// (move.go).
//
// A verified domain belongs to one tenant. Which one is recorded in an item of the default
// tenant, because there is no other place that all tenants share. It is written with
// compare-and-set, so if two tenants verify a domain at once, the first one gets it. DNS is
// asked before that, so a tenant that does not control a domain learns nothing about others.
//
// Verified domains are looked up again every day. If the record is gone, that is reported,
// and has no other effect.
//
// A move is an item with a position in the order of users. Any process that holds its lease
// takes the next step, so a move continues when a process ends. Each user is one change
// through scim.Provider, in the name of whoever began the move and with the permissions
// that they have at that time.
package domains
