package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
// the backup knows nothing: auth.Restored, auth.Restorable and scim.Restorable for people,
// events.Restored for feeds, and for clients what is said here. The zero Policy, with a
// time, ends all tokens.
type Policy struct {
	At time.Time // when the restore began
	// KeepTokens leaves the tokens of clients as they are.
	KeepTokens bool
	// Listed, if not nil, are the ids of the clients and tokens that end; others stay.
	Listed map[string]bool

	// Ended is how many of the tokens that Look has seen end.
	Ended int

	file  string         // that ReadRevoked read
	named map[string]int // the lines of ids in it that Look has not seen yet
}

// Look is shown each record of a backup before anything is restored.
func (p *Policy) Look(rec storage.Record) {
	switch {
	case rec.Client != nil:
		delete(p.named, rec.Client.ID)
	case rec.Token != nil:
		delete(p.named, rec.Token.ID)
		if p.ends(rec.Token) && rec.Token.Expires.After(p.At) {
			p.Ended++
		}
	}
}

// Unknown returns an error for each line of the file of ReadRevoked that names what Look
// has not seen: with a name or a typo for an id, tokens would stay that were to end.
func (p *Policy) Unknown() error {
	var unknown []error
	for _, n := range slices.Sorted(maps.Values(p.named)) {
		unknown = append(unknown, fmt.Errorf("%s, line %d: no client or token of the backup has this id", p.file, n))
	}
	return errors.Join(unknown...)
}

// Alter is for dump.Restorer.
func (p *Policy) Alter(_ storage.TenantID, rec *storage.Record) (keep bool, err error) {
	switch {
	case rec.Token != nil:
		k, at := *rec.Token, storage.Milli(p.At)
		if p.ends(&k) && k.Expires.After(at) {
			k.Expires = at
		}
		rec.Token = &k
	case rec.Item != nil && (!scim.Restorable(rec.Item) || !auth.Restorable(rec.Item)):
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
	list := []storage.Change{
		storage.ChangeOf("created", nil, b.Header.Created.UTC()),
		storage.ChangeOf("tokens", nil, tokens),
	}
	if p.Listed != nil {
		ids := sha256.Sum256([]byte(strings.Join(slices.Sorted(maps.Keys(p.Listed)), "\n")))
		list = append(list, storage.ChangeOf("listed", nil, hex.EncodeToString(ids[:]))) // which list it was
	}
	return list
}

// changed are the actions after which the tokens that a client had before may not be good
// any more, or not for as much.
var changed = []string{"client.revoke", "client.rotate", "client.update"}

// ReadRevoked sets Listed to what a file names, and is an error if that is nothing: ids, one
// to a line, or audit entries as roster audit export writes them, of which those about
// clients count. Clients of these may be none of the backup, having been made since.
func (p *Policy) ReadRevoked(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p.Listed, p.file, p.named = make(map[string]bool), path, make(map[string]int)
	entries := false
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '{':
			var e struct{ Action, Type, ID string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" { // the error may quote it
				return fmt.Errorf("%s, line %d: expected an audit entry", path, n)
			}
			entries = true
			if slices.Contains(changed, e.Action) && e.Type == "Client" {
				p.Listed[e.ID] = true
			}
		case strings.ContainsAny(line, " \t,;\""):
			return fmt.Errorf("%s, line %d: expected the id of a client or token", path, n)
		default:
			p.Listed[line], p.named[line] = true, n
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	if !entries && len(p.named) == 0 {
		return fmt.Errorf("%s names nothing: where no token was revoked, use --keep-tokens", path)
	}
	return nil
}
