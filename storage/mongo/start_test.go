package mongo

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestWeakOptions: what would make the store's promises weaker is refused by the
// name it has in the URL, before anything connects.
func TestWeakOptions(t *testing.T) {
	const host = "mongodb://roster:swordfish@127.0.0.1:1/roster?"
	for options, want := range map[string]string{
		"w=0":                                "option w ",
		"w=1":                                "option w ",
		"w=3":                                "option w ",
		"w=dc1":                              "option w ",
		"journal=false":                      "option journal ",
		"w=1&journal=false":                  "option journal ",
		"readConcernLevel=local":             "option readConcernLevel ",
		"readConcernLevel=available":         "option readConcernLevel ",
		"readPreference=secondary":           "option readPreference ",
		"readPreference=primaryPreferred":    "option readPreference ",
		"readPreference=nearest&w=majority":  "option readPreference ",
		"maxStalenessSeconds=x":              "is not valid",
		"tls=perhaps":                        "is not valid",
		"authMechanism=SCRAM-SHA-256&x=%zz":  "is not valid",
		"replicaSet=rs0&directConnection=ok": "is not valid",
	} {
		s, err := Open(t.Context(), host+options, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: got %v, %v; want an error with %q and no password", options, s, err, want)
		}
	}
	for _, uri := range []string{"", "mongodb://", "mongodb://u:sword/fish@h/db", "mongodb://u:swordfish@h:port/db", "http://u:swordfish@h/db"} {
		if _, err := Open(t.Context(), uri, Options{}); err == nil || strings.Contains(err.Error(), "fish") || strings.Contains(err.Error(), "port/db") {
			t.Errorf("%q: got %v, want an error without any of it", uri, err)
		}
	}
}

// TestUnknownHosts: a DNS that does not answer is no mistake in the connection string.
func TestUnknownHosts(t *testing.T) {
	_, err := Open(t.Context(), "mongodb+srv://roster:swordfish@hosts.invalid/roster", Options{})
	if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "DNS") || strings.Contains(err.Error(), "fish") || strings.Contains(err.Error(), "percent-encoded") {
		t.Errorf("got %v, want ErrUnavailable because of DNS, without the URL", err)
	}
}

func TestDatabaseOf(t *testing.T) {
	for uri, want := range map[string]string{
		"mongodb://h":                             "roster",
		"mongodb://h/":                            "roster",
		"mongodb://h/?w=majority":                 "roster",
		"mongodb://h1:1,h2:2/people?replicaSet=r": "people",
		"mongodb+srv://u:p%2Fq@h/people":          "people",
		"mongodb://u:a@b@h/people":                "people",
	} {
		if got := databaseOf(uri); got != want {
			t.Errorf("databaseOf(%q) = %q, want %q", uri, got, want)
		}
	}
}

func TestServersRefused(t *testing.T) {
	for what, c := range map[string]struct {
		config mongotest.Config
		opt    Options
		want   string // "" for accepted
	}{
		"a replica set":               {mongotest.Config{}, Options{}, ""},
		"standalone":                  {mongotest.Config{Standalone: true}, Options{}, "allow-standalone"},
		"standalone, allowed":         {mongotest.Config{Standalone: true}, Options{AllowStandalone: true}, ""},
		"a weak default":              {mongotest.Config{DefaultWriteConcern: 1}, Options{}, "defaultWriteConcern"},
		"a default with another rule": {mongotest.Config{DefaultWriteConcern: "dc1"}, Options{}, "defaultWriteConcern"},
		"a default of majority":       {mongotest.Config{DefaultWriteConcern: "majority"}, Options{}, ""},
		"a default outside journals":  {mongotest.Config{Unjournaled: true}, Options{}, "j: false"},
		"reads that may be lost":      {mongotest.Config{DefaultReadConcern: "available"}, Options{}, "defaultReadConcern"},
		"reads of a majority":         {mongotest.Config{DefaultReadConcern: "majority"}, Options{}, ""},
		"a sharded cluster":           {mongotest.Config{Router: true}, Options{}, ""},
		"… with a weak default":       {mongotest.Config{Router: true, DefaultWriteConcern: 1}, Options{}, "defaultWriteConcern"},
		"MongoDB 5":                   {mongotest.Config{Version: "5.0.31"}, Options{}, "expected 6.0 or newer"},
		"MongoDB 6":                   {mongotest.Config{Version: "6.0.0"}, Options{}, ""},
		"MongoDB 8":                   {mongotest.Config{Version: "8.0.0"}, Options{}, ""},
		"with a password":             {mongotest.Config{Username: "roster", Password: "swordfish"}, Options{}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			server := mongotest.StartDouble(t, c.config)
			c.opt.Log = slog.New(slog.DiscardHandler)
			s, err := Open(t.Context(), server.URI(server.NewDatabase(t)), c.opt)
			if err == nil {
				defer s.Close()
			}
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

// TestDefaultsUnread: a user who may not read the cluster's defaults is no reason not
// to start; that they were not read is said. Any other failure is a reason.
func TestDefaultsUnread(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{})
	var log bytes.Buffer
	opt := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}
	server.Fail(mongotest.Failure{Command: "getDefaultRWConcern", Code: codeUnauthorized})
	open(t, server.URI("roster"), opt).Close()
	if !strings.Contains(log.String(), "default write concern could not be read back") {
		t.Errorf("the log says %q", &log)
	}
	server.Fail(mongotest.Failure{Command: "getDefaultRWConcern", Code: 8})
	if s, err := Open(t.Context(), server.URI("roster"), opt); err == nil || !strings.Contains(err.Error(), "read the cluster's defaults back") {
		t.Errorf("got %v, %v, want an error", s, err)
	}
}

// TestWrongPassword: what the driver says of a refused login holds no secret.
func TestWrongPassword(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{Username: "roster", Password: "right"})
	var log bytes.Buffer
	uri := strings.Replace(server.URI("roster"), ":right@", ":swordfish@", 1)
	_, err := Open(t.Context(), uri, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil || strings.Contains(err.Error()+log.String(), "swordfish") {
		t.Errorf("got %v, log %q; want an error without the password", err, &log)
	}
}

func TestLookalike(t *testing.T) {
	for key, want := range map[string]string{"version": "", "ferretdbVersion": "FerretDB", "ferretdb": "FerretDB"} {
		raw, err := bson.Marshal(d(key, "1"))
		if err != nil {
			t.Fatal(err)
		}
		if got := lookalike(raw); got != want {
			t.Errorf("lookalike of a server with %s: got %q, want %q", key, got, want)
		}
	}
}

// TestMigrationsRace: any number of processes may meet on an empty database.
func TestMigrationsRace(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	const racers = 8
	var stores [racers]*Store
	var errs [racers]error
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { stores[i], errs[i] = Open(t.Context(), uri, Options{Log: slog.New(slog.DiscardHandler)}) })
	}
	wg.Wait()
	for i := range racers {
		if errs[i] != nil {
			t.Errorf("racer %d: %v", i, errs[i])
			continue
		}
		defer stores[i].Close()
	}
	if t.Failed() {
		return
	}
	list, err := stores[0].ListTenants(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("got %d tenants, %v, want the default one", len(list), err)
	}
	for _, c := range indexes {
		specs, err := stores[0].db.Collection(c.collection).Indexes().ListSpecifications(t.Context())
		if err != nil || len(specs) != len(c.keys)+1 {
			t.Errorf("%s has %d indexes, %v, want %d", c.collection, len(specs), err, len(c.keys)+1)
		}
	}
}

// TestShardKeys: behind the router of a sharded cluster the collections that grow
// get the index that sharding them needs, however often, and writes are transactions.
func TestShardKeys(t *testing.T) {
	server := mongotest.StartDouble(t, mongotest.Config{Router: true})
	s := open(t, server.URI("roster"), Options{})
	if err := s.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range indexes {
		specs, err := s.db.Collection(c.collection).Indexes().ListSpecifications(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		has := slices.ContainsFunc(specs, func(x mongo.IndexSpecification) bool { return x.Name == "t_1__id_1" })
		if want := slices.Contains([]string{resources, keys, rows, items}, c.collection); has != want {
			t.Errorf("%s has an index by shard key: %v, want %v", c.collection, has, want)
		}
	}
	ana, failed := newUser(s, 1, "ana"), errors.New("failed")
	err := s.Write(t.Context(), storage.DefaultTenant, func(tx storage.Tx) error {
		if err := errors.Join(tx.Create(ana), tx.Audit(entryOf(ana, 1))); err != nil {
			return err
		}
		if _, err := tx.Get("User", ana.ID); err != nil { // so that it is sent
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatalf("got %v, want the error of fn", err)
	}
	if _, err := s.Get(t.Context(), storage.DefaultTenant, "User", ana.ID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of what was undone: got %v, want ErrNotFound", err)
	}
	if err := create(t.Context(), s, ana); err != nil {
		t.Error(err)
	}
}

// TestIndexesBeginWithTenant: so that a request of one tenant asks one shard and reads
// nothing of others. What expires is found for all tenants at once.
func TestIndexesBeginWithTenant(t *testing.T) {
	for _, c := range indexes {
		for _, k := range append(slices.Clip(c.keys), shardKey) {
			if k[0].Key != fTenant && (c.collection != items || k[0].Key != fExpires) {
				t.Errorf("%s has an index that begins with %s", c.collection, k[0].Key)
			}
		}
	}
}

// TestNewerSchema: a database that a newer program has changed is left alone.
func TestNewerSchema(t *testing.T) {
	server := mongotest.Start(t)
	uri := server.URI(server.NewDatabase(t))
	s := open(t, uri, Options{})
	if _, err := s.db.Collection(meta).UpdateOne(t.Context(), d(fID, "schema"), d("$set", d(fSchema, schemaVersion+1))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), uri, Options{}); err == nil || !strings.Contains(err.Error(), "use a newer roster") {
		t.Errorf("got %v, want an error that asks for a newer program", err)
	}
}

// TestNoServer: without a server there is an answer before the driver would give one.
func TestNoServer(t *testing.T) {
	start := time.Now()
	_, err := Open(t.Context(), "mongodb://roster:swordfish@127.0.0.1:1/?replicaSet=rs0", Options{})
	if !errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if took := time.Since(start); took >= driverTime {
		t.Errorf("it took %s", took)
	}
}

// TestClosed: a store that is closed says so.
func TestClosed(t *testing.T) {
	server := mongotest.Start(t)
	s := open(t, server.URI(server.NewDatabase(t)), Options{})
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	for what, err := range map[string]error{
		"Ping":  s.Ping(t.Context()),
		"Write": s.Write(t.Context(), storage.DefaultTenant, func(storage.Tx) error { return nil }),
		"Get":   func() error { _, err := s.Get(t.Context(), storage.DefaultTenant, "User", "x"); return err }(),
	} {
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", what, err)
		}
	}
}
