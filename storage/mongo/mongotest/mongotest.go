package mongotest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// EnvURI names the environment variable with the connection string of a server
// to test on.
const EnvURI = "ROSTER_TEST_MONGODB_URI"

// Kind says where a server comes from.
type Kind string

// The kinds of servers.
const (
	KindURI      Kind = "uri"      // somebody else runs it; EnvURI names it
	KindMongod   Kind = "mongod"   // a mongod on the PATH, started for the test
	KindDouble   Kind = "double"   // the double of this package
	KindFerretDB Kind = "ferretdb" // see StartFerretDB
)

// Server is a running MongoDB server.
type Server struct {
	Kind Kind
	// Version is what the server says of itself.
	Version string
	address address
}

// address is a connection string in parts: any number of hosts, so that it is
// no URL.
type address struct{ before, database, options string }

func parseAddress(uri string) address {
	head, options, _ := strings.Cut(uri, "?")
	scheme, rest, _ := strings.Cut(head, "://")
	hosts, database, _ := strings.Cut(rest, "/")
	return address{scheme + "://" + hosts, database, options}
}

// Start returns a server to test on: the one EnvURI names, else a mongod from
// the PATH, else a double. What it started ends with the test; start one server
// for all subtests of a suite, because a mongod takes seconds.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := start(tb)
	announce(tb, s)
	return s
}

func start(tb testing.TB) *Server {
	tb.Helper()
	if uri := os.Getenv(EnvURI); uri != "" {
		s := &Server{Kind: KindURI, address: parseAddress(uri)}
		s.Version = s.version(tb)
		return s
	}
	if s := startMongod(tb); s != nil {
		return s
	}
	return &StartDouble(tb, Config{}).Server
}

// patience is in every connection string: on a machine that is busy with other
// tests a server may be slow to be found, and that says nothing about the store.
const patience = "serverSelectionTimeoutMS=60000&connectTimeoutMS=60000"

// URI is the connection string for a database.
func (s *Server) URI(database string) string {
	options := strings.TrimPrefix(s.address.options+"&"+patience, "&")
	if s.address.database != "" && !strings.Contains(strings.ToLower(options), "authsource=") {
		// It was also where to authenticate.
		options = strings.TrimPrefix(options+"&authSource="+s.address.database, "&")
	}
	return s.address.before + "/" + database + "?" + options
}

// NewDatabase returns the name of a database nobody else has, which is dropped
// when the test ends.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	name := "roster_test_" + strings.ToLower(rand.Text()[:12])
	if s.Kind == KindURI { // the others go as a whole
		tb.Cleanup(func() {
			s.with(tb, func(ctx context.Context, c *mongo.Client) error { return c.Database(name).Drop(ctx) })
		})
	}
	return name
}

func (s *Server) version(tb testing.TB) string {
	tb.Helper()
	var info struct{ Version string }
	s.with(tb, func(ctx context.Context, c *mongo.Client) error {
		return c.Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info)
	})
	return info.Version
}

// with runs fn with a client of its own.
func (s *Server) with(tb testing.TB, fn func(context.Context, *mongo.Client) error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := mongo.Connect(options.Client().ApplyURI(s.URI("admin")))
	if err != nil {
		tb.Fatalf("mongotest: %v", err)
	}
	defer func() { _ = c.Disconnect(ctx) }()
	if err := fn(ctx, c); err != nil {
		tb.Fatalf("mongotest: server of kind %s: %v", s.Kind, err)
	}
}

// String names the server in a line of a log.
func (s *Server) String() string {
	switch s.Kind {
	case KindDouble:
		return "the test double, as MongoDB " + s.Version
	case KindFerretDB:
		return "FerretDB, as MongoDB " + s.Version
	case KindMongod:
		return "mongod " + s.Version + " from the PATH"
	}
	return "MongoDB " + s.Version + " named by " + EnvURI
}

var announced sync.Once

// announce says what the tests run on: each one in its log, and the first one
// also where it is seen when everything passes.
func announce(tb testing.TB, s *Server) {
	tb.Helper()
	tb.Logf("mongotest: running on %s", s)
	announced.Do(func() { fmt.Fprintf(os.Stderr, "mongotest: running on %s\n", s) })
}
