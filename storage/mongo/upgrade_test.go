package mongo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim/filter"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// badgeType has a dateTime outside of meta, which no type of the program that wrote
// version 1 had.
var badgeType = func() *schemas.ResourceType {
	s, err := schemas.Parse([]byte(`{"id": "urn:example:params:scim:schemas:Badge", "name": "Badge", "attributes": [
		{"name": "name", "type": "string"},
		{"name": "issued", "type": "dateTime"}]}`))
	if err != nil {
		panic(err)
	}
	rt, err := schemas.NewResourceType("Badge", "/Badges", "Badge", s)
	if err != nil {
		panic(err)
	}
	return rt
}()

var withBadges = Options{Types: schemas.NewSet(append(slices.Clone(set.Types()), badgeType)...), Log: slog.New(slog.DiscardHandler)}

// oldUsers is how many users there are of version 1; every third has no password
// and every fifth is deleted. There are as many badges.
const oldUsers = upgradedAtOnce*3/2 + 60

func userID(n int) string  { return fmt.Sprintf("01a20000-0000-7000-8000-%012d", n) }
func badgeID(n int) string { return fmt.Sprintf("01a30000-0000-7000-8000-%012d", n) }

// newStoreV1 makes a database with the documents that version 1 wrote.
func newStoreV1(t testing.TB, server *mongotest.Server) (uri string) {
	t.Helper()
	uri = server.URI(server.NewDatabase(t))
	s := open(t, uri, Options{})
	var list, owned []any
	for n := range oldUsers {
		typ, name := "User", fmt.Sprint("user", n)
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
		user := d(fID, key("default", userID(n)), fTenant, "default", fResource, userID(n), fVersion, int64(1), fCreated, at, fModified, at, fName, name,
			fKeys, bson.A{"userName=" + name}, fUnique, 1, fShadow, d("userName", name), fDoc, `{"id":"`+userID(n)+`","userName":"`+name+`"}`)
		if n%5 == 4 {
			typ = deletedType(typ)
			user = append(user, bson.E{Key: fDeleted, Value: at})
		} else {
			owned = append(owned, d(fID, key("default", "User", "userName="+name), fTenant, "default", fOwner, userID(n)))
		}
		if n%3 != 2 {
			user = append(user, bson.E{Key: fPasswordV1, Value: hashV1(n)})
		}
		list = append(list, append(user, bson.E{Key: fType, Value: typ}))

		issued := time.Date(2026, 3, 1, 12, 0, 0, 100*n, time.UTC)
		list = append(list, d(fID, key("default", badgeID(n)), fTenant, "default", fType, "Badge", fResource, badgeID(n), fVersion, int64(3), fCreated, at,
			fModified, at, fName, name, fKeys, bson.A{}, fUnique, 0,
			fShadow, d("name", name, "issued", float64(issued.Unix())*1e3+float64(issued.Nanosecond())/1e6),
			fDoc, `{"id":"`+badgeID(n)+`","name":"`+name+`","issued":"`+issued.Format(time.RFC3339Nano)+`"}`))
	}
	for collection, docs := range map[string][]any{resources: list, keys: owned} {
		if _, err := s.db.Collection(collection).InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.db.Collection(meta).UpdateOne(t.Context(), d(fID, "schema"), d("$set", d(fSchema, 1))); err != nil {
		t.Fatal(err)
	}
	return uri
}

func hashV1(n int) string { return fmt.Sprintf("$argon2id$v=19$hash+of/%d\"", n) }

// checkUpgraded looks at all that newStoreV1 made.
func checkUpgraded(t *testing.T, s *Store) {
	t.Helper()
	ctx, tenant := t.Context(), storage.DefaultTenant
	list, err := s.Items(ctx, tenant, "credential", "")
	if want := oldUsers - oldUsers/3; err != nil || len(list) != want {
		t.Errorf("%d credentials, %v, want %d", len(list), err, want)
	}
	for n := range oldUsers {
		i, err := s.Item(ctx, tenant, "credential", userID(n))
		if n%3 == 2 {
			if !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("the credential of user %d: %v, want ErrNotFound", n, err)
			}
			continue
		}
		want := fmt.Sprintf(`{"passwordHash":"$argon2id$v=19$hash+of/%d\""}`, n)
		if err != nil || string(i.Data) != want || i.Version != 1 || !i.Expires.IsZero() || len(i.Keys) > 0 {
			t.Errorf("the credential of user %d: %+v, %v", n, i, err)
		}
	}
	if n, err := s.db.Collection(resources).CountDocuments(ctx, d(fTenant, "default", fPasswordV1, d("$exists", true))); err != nil || n > 0 {
		t.Errorf("%d users have a password still, %v", n, err)
	}
	for text, want := range map[string]int{
		`issued eq "2026-03-01T12:00:00Z"`:         1,
		`issued eq "2026-03-01T12:00:00.0000007Z"`: 1,
		`issued lt "2026-03-01T12:00:00.0000010Z"`: 10,
		`issued ge "2026-03-01T12:00:00.0000010Z"`: oldUsers - 10,
	} {
		e, err := filter.Parse(text, badgeType, filter.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Query(ctx, tenant, storage.Query{Type: "Badge", Filter: e, StartIndex: 1})
		if err != nil || p.TotalResults != want {
			t.Errorf("%s: got %+v, %v, want %d", text, p, err, want)
		}
	}
	p, err := s.Query(ctx, tenant, storage.Query{Type: "User", StartIndex: 1})
	if want := oldUsers - oldUsers/5; err != nil || p.TotalResults != want {
		t.Errorf("got %+v, %v, want %d users", p, err, want)
	}
	raw, err := s.db.Collection(meta).FindOne(ctx, d(fID, "schema")).Raw()
	if err != nil || number(raw, fSchema) != schemaVersion || !raw.Lookup(fOldest).IsZero() {
		t.Errorf("the schema: %s, %v", raw, err)
	}
	user := newUser(s, 0, "user0")
	if err := s.Write(ctx, tenant, func(tx storage.Tx) error {
		prev, err := tx.Get("User", user.ID)
		if err != nil {
			return err
		}
		prev.Index = user.Index
		return errors.Join(tx.Delete(prev, user.Created), tx.Audit(entryOf(user, 2)))
	}); err != nil {
		t.Errorf("a write to a user of version 1: %v", err)
	}
}

// TestUpgrade: the documents of version 1 become those of this one, once.
func TestUpgrade(t *testing.T) {
	server := mongotest.Start(t)
	uri := newStoreV1(t, server)
	s := open(t, uri, withBadges)
	checkUpgraded(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	open(t, uri, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if log.Len() > 0 {
		t.Errorf("at the next start: %s", &log)
	}
}

// TestUpgradeStandalone: a server without transactions gets there too.
func TestUpgradeStandalone(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{Standalone: true})
	opt := withBadges
	opt.AllowStandalone = true
	uri := ""
	func() {
		s := open(t, server.URI("roster"), opt)
		user := newUser(s, 0, "ana")
		if err := create(t.Context(), s, user); err != nil {
			t.Fatal(err)
		}
		for collection, update := range map[string][2]bson.D{
			resources: {d(fResource, user.ID), d("$set", d(fPasswordV1, hashV1(0)))},
			meta:      {d(fID, "schema"), d("$set", d(fSchema, 1))},
		} {
			if _, err := s.db.Collection(collection).UpdateOne(t.Context(), update[0], update[1]); err != nil {
				t.Fatal(err)
			}
		}
		uri = server.URI("roster")
	}()
	s := open(t, uri, opt)
	if i, err := s.Item(t.Context(), storage.DefaultTenant, "credential", userID(0)); err != nil || !bytes.Contains(i.Data, []byte("hash+of/0")) {
		t.Errorf("the credential: %+v, %v", i, err)
	}
}

// TestUpgradeIsInterrupted stops an upgrade at every command, each time a later one,
// until one gets to its end.
func TestUpgradeIsInterrupted(t *testing.T) {
	server := &mongotest.StartDouble(t, mongotest.Config{TransactionIdle: time.Second}).Server
	uri := newStoreV1(t, server)
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.WithoutCancel(t.Context())) // nothing is left to lose
	states := [][2]int64{{1, 0}, {schemaVersion, 1}, {schemaVersion, 0}}
	last, between := states[0], 0
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		opt := withBadges
		opt.Monitor = &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
			switch e.CommandName {
			case "find", "getMore", "update", "commitTransaction":
				if n++; n == stop {
					cancel()
				}
			}
		}}
		s, err := Open(ctx, uri, opt)
		cancel()
		if err == nil {
			defer s.Close()
			if between < 3 {
				t.Errorf("the upgrade was stopped %d times after it had begun, want several", between)
			}
			break
		}
		if stop > 200 {
			t.Fatalf("it never gets to its end: %v", err)
		}
		// Nobody is let in who does not know of what has begun.
		raw, err := client.Database(databaseOf(uri)).Collection(meta).FindOne(t.Context(), d(fID, "schema")).Raw()
		if err != nil {
			t.Fatal(err)
		}
		now := [2]int64{number(raw, fSchema), number(raw, fOldest)}
		if slices.Index(states, now) < slices.Index(states, last) {
			t.Errorf("stopped at command %d: version and oldest version are %v after %v", stop, now, last)
		}
		if last = now; now == states[1] {
			between++
		}
	}
	s := open(t, uri, withBadges)
	checkUpgraded(t, s)
}

// TestUpgradeMeetsChange: what is changed between the reading of a document and its
// upgrade, by a process that is through, stays.
func TestUpgradeMeetsChange(t *testing.T) {
	server := mongotest.Start(t)
	uri := newStoreV1(t, server)
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.WithoutCancel(t.Context())) // nothing is left to lose
	badges := client.Database(databaseOf(uri)).Collection(resources)
	opt, changed := withBadges, false
	opt.Monitor = &event.CommandMonitor{Started: func(ctx context.Context, e *event.CommandStartedEvent) {
		if !changed && e.CommandName == "update" && bytes.Contains(e.Command, []byte(badgeID(0))) {
			changed = true
			if _, err := badges.UpdateOne(ctx, d(fID, key("default", badgeID(0))), d("$set", d(fVersion, int64(4), fShadow, d("name", "changed")))); err != nil {
				t.Error(err)
			}
		}
	}}
	open(t, uri, opt).Close()
	raw, err := badges.FindOne(t.Context(), d(fID, key("default", badgeID(0)))).Raw()
	if shadow := raw.Lookup(fShadow).String(); err != nil || !changed || shadow != `{"name": "changed"}` {
		t.Errorf("changed %v: %s, %v", changed, shadow, err)
	}
}

// TestUpgradesRace: several processes bring a database up to date at once, and one
// that is through serves while others are not.
func TestUpgradesRace(t *testing.T) {
	server := mongotest.Start(t)
	uri := newStoreV1(t, server)
	const racers = 4
	var stores [racers]*Store
	var errs [racers]error
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { stores[i], errs[i] = Open(t.Context(), uri, withBadges) })
	}
	wg.Wait()
	for i := range racers {
		if errs[i] != nil {
			t.Fatalf("racer %d: %v", i, errs[i])
		}
		defer stores[i].Close()
	}
	checkUpgraded(t, stores[0])
}

// TestUpgradeAfterTheFact: a process that is late with an upgrade puts nothing back
// that another has changed after it.
func TestUpgradeAfterTheFact(t *testing.T) {
	server := mongotest.Start(t)
	uri := newStoreV1(t, server)
	s := open(t, uri, withBadges)
	prev, err := s.Item(t.Context(), storage.DefaultTenant, "credential", userID(0))
	if err != nil {
		t.Fatal(err)
	}
	user := newUser(s, 0, "user0")
	if err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		return errors.Join(tx.DeleteItem(prev), tx.Audit(entryOf(user, 0)))
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.moveSome(t.Context(), "default", bson.A{key("default", userID(0)), key("default", userID(1))}), s.upgrade(t.Context())); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Item(t.Context(), storage.DefaultTenant, "credential", userID(0)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a password that was taken away: %+v, %v", i, err)
	}
}

// TestUpgradesAreTold: the table of upgrades ends at the schema version of this program.
func TestUpgradesAreTold(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	if row := fmt.Sprintf("\n| MongoDB | 1 | %d |", schemaVersion); !strings.Contains(string(page), row) {
		t.Errorf("docs/operations.md has no row %q", row)
	}
}
