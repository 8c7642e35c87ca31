package mongo

import (
	"strings"
	"testing"
	"time"

	"github.com/roster-id/roster/internal/raced"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
	"github.com/roster-id/roster/storage/storagetest"
)

// TestFerretDB holds the store to the contract on a server that somebody else
// wrote, which understands MongoDB's commands in its own way. What it cannot do
// is named, with the reason.
func TestFerretDB(t *testing.T) {
	raced.Skip(t)
	t.Parallel()
	const (
		undo = "FerretDB has no transactions, so what a write did before it failed stays"
		many = "FerretDB uses no index, and with thousands of documents takes minutes"
		more = "FerretDB uses no index, and with thousands of queries takes minutes"
		slow = "FerretDB takes too long to make 400 large documents, which is all that is against it"
	)
	server := mongotest.StartFerretDB(t)
	// Without the test's leave it is refused, whatever else is allowed.
	if _, err := Open(t.Context(), server.URI("roster"), Options{AllowStandalone: true}); err == nil || !strings.Contains(err.Error(), "the server is FerretDB") {
		t.Errorf("got %v, want FerretDB refused", err)
	}
	storagetest.RunSequential(t, func(t *testing.T) storage.Store {
		return open(t, server.URI(server.NewDatabase(t)), Options{AllowStandalone: true, AllowLookalike: true, QueryTimeout: time.Minute})
	}, map[string]string{
		"of a write whose fn fails nothing remains":                                                        undo,
		"a panic fails only the write it happens in":                                                       undo,
		"a write that fails begins no epoch":                                                               undo,
		"SetMembers works again after it failed":                                                           undo,
		"totals are not moved by a write that fails":                                                       undo,
		"a change without an audit entry is ErrUnaudited and leaves nothing":                               undo,
		"a write whose entry was refused fails, and leaves nothing":                                        undo,
		"a Restore that closes a circle of groups is one that Ancestors tells of":                          undo,
		"a purge needs an audit entry":                                                                     undo,
		"CreateTenant of a tenant that there is fails and undoes the write":                                undo,
		"of writes that create a tenant at once, one does":                                                 undo,
		"Purge of a group with many members takes several writes":                                          many,
		"Members of a large group come once each and in the same order again":                              many,
		"Members that stay are there once while others come and go":                                        many,
		"SweepItems removes what expired before a time, of all tenants":                                    many,
		"totals and pages are right after creates and deletes in any order":                                many,
		"those in a group, directly or through others, come once and in order, whatever the size of pages": more,
		"what is deleted while a page is read may be missing, and what changed is seen whole":              slow,
	})
}
