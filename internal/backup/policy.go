// Package backup decides what of a backup may live again in the store that is made of it.
package backup

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/dump"
	"github.com/roster-id/roster/internal/events"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Policy is what a restore does about what was revoked or used since the backup, of which
// the backup knows nothing: auth.Restored and scim.Restorable for people, events.Restored
// for feeds, and for clients what is said here. The zero Policy, with a time, ends all tokens.
type Policy struct {
	At time.Time // when the restore began
	// KeepTokens leaves the tokens of clients as they are.
	KeepTokens bool
	// Listed, if not nil, are the ids of the clients and tokens that end; others stay.
	Listed map[string]bool

	// Ended is how many tokens ended.
	Ended int
}

// Alter is for dump.Restorer.
func (p *Policy) Alter(_ storage.TenantID, rec *storage.Record) (keep bool, err error) {
	switch {
	case rec.Token != nil:
		k, at := *rec.Token, p.At.UTC().Truncate(time.Millisecond)
		if p.ends(&k) && k.Expires.After(at) {
			k.Expires = at
			p.Ended++
		}
		rec.Token = &k
	case rec.Item != nil && !scim.Restorable(rec.Item):
		return false, nil
	case rec.Item != nil:
		if rec.Item, err = auth.Restored(rec.Item, p.At); err == nil {
			rec.Item, err = events.Restored(rec.Item)
		}
	}
	return true, err
}

func (p *Policy) ends(k *storage.Token) bool {
	return !p.KeepTokens && (p.Listed == nil || p.Listed[k.ID] || p.Listed[k.Client])
}

// Changes are what the audit entry of the restore tells.
func (p *Policy) Changes(b *dump.Backup) []storage.Change {
	tokens := "ended"
	switch {
	case p.KeepTokens:
		tokens = "kept"
	case p.Listed != nil:
		tokens = "listed"
	}
	return []storage.Change{
		{Path: "created", After: jsonText(b.Header.Created.UTC().Format(time.RFC3339Nano))},
		{Path: "tokens", After: jsonText(tokens)},
	}
}

func jsonText(s string) []byte {
	b, _ := json.Marshal(s) // it does not fail for text
	return b
}

// changed are the actions after which the tokens that a client had before may not be good
// any more, or not for as much.
var changed = []string{"client.revoke", "client.rotate", "client.update"}

// ReadRevoked reads a file for Policy.Listed: ids, one to a line, or audit entries as
// roster audit export writes them, of which those about clients count.
func ReadRevoked(path string) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ids := make(map[string]bool)
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '{':
			var e struct{ Action, Type, ID string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" { // the error may quote it
				return nil, fmt.Errorf("%s, line %d: expected an audit entry", path, n)
			}
			if slices.Contains(changed, e.Action) && e.Type == "Client" {
				ids[e.ID] = true
			}
		case strings.ContainsAny(line, " \t,;\""):
			return nil, fmt.Errorf("%s, line %d: expected the id of a client or token", path, n)
		default:
			ids[line] = true
		}
	}
	return ids, s.Err()
}
