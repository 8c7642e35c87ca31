// Package domains keeps the domains of each tenant: added, proven by a DNS TXT record,
// made primary (domain.go), and the user names moved from one to another (move.go).
//
// A domain that a tenant has proven is no other tenant's. Which tenant that is stands in
// an item of the default tenant, for there is no other place where tenants meet; it is
// written with compare-and-set, so of two who prove a domain at once the first has it.
// DNS is asked before that, so who has not shown to control a domain learns nothing of
// others.
//
// What was proven once is looked at again every day. Where the record is gone that is
// reported, and nothing is taken from anybody.
//
// A move is an item with a place in the order of users. Any process takes the next step
// of it, whoever holds its lease; so it goes on when a process ends. Each user is one
// change through scim.Provider, in the name of whoever began the move and with what they
// may do at the time.
package domains
