package mongo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/roster-id/roster/storage"
)

// defaultDatabase is used when the URL names none.
const defaultDatabase = "roster"

// maxConnections bounds the connections to each member. A request that waits for
// one is told that the store is unavailable when its time is over.
const maxConnections = 100

// Open opens the database that a connection string names, and makes collections
// and indexes in it as needed. The database is the one in the URL's path, or
// "roster". No error repeats the URL, which may hold a password.
func Open(ctx context.Context, uri string, opt Options) (*Store, error) {
	if opt.QueryTimeout == 0 {
		opt.QueryTimeout = 2 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	clientOptions, database, err := connection(uri, opt)
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(clientOptions)
	if err != nil {
		return nil, err
	}
	s := &Store{opt: opt, client: client, db: client.Database(database), turns: newTurns()}
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(ctx); err != nil {
		_ = s.Close() // the first error tells more
		return nil, err
	}
	return s, nil
}

// connection reads a connection string and refuses what would weaken the store.
func connection(uri string, opt Options) (*options.ClientOptions, string, error) {
	o := options.Client().ApplyURI(uri)
	if err := o.Validate(); err != nil {
		if dns, ok := errors.AsType[*net.DNSError](err); ok { // of a mongodb+srv URL
			return nil, "", fmt.Errorf("%w: DNS does not tell which hosts the mongodb+srv connection string stands for: %s", storage.ErrUnavailable, dns.Err)
		}
		// The driver's text may repeat parts of the URL.
		return nil, "", errors.New("expected a MongoDB connection string such as mongodb://host1,host2/roster?replicaSet=name: " +
			"the one given is not valid; characters in a password other than letters and digits have to be percent-encoded")
	}
	if err := errors.Join(weakWrites(o.WriteConcern), weakReads(o.ReadConcern, o.ReadPreference)); err != nil {
		return nil, "", err
	}
	journaled := true
	o.SetWriteConcern(&writeconcern.WriteConcern{W: "majority", Journal: &journaled}).
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetMonitor(opt.Monitor).
		SetAppName("roster")
	if o.ServerSelectionTimeout == nil {
		o.SetServerSelectionTimeout(5 * time.Second)
	}
	if o.ConnectTimeout == nil {
		// A connection that was being made when the network fell silent holds up
		// the next one for this long.
		o.SetConnectTimeout(3 * time.Second)
	}
	if o.MaxPoolSize == nil {
		o.SetMaxPoolSize(maxConnections)
	}
	return o, databaseOf(uri), nil
}

// databaseOf returns the database in a valid connection string.
func databaseOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	rest, _, _ = strings.Cut(rest, "?")
	_, name, _ := strings.Cut(rest[strings.LastIndexByte(rest, '@')+1:], "/")
	if name == "" {
		return defaultDatabase
	}
	return name
}

func weakWrites(c *writeconcern.WriteConcern) error {
	if c == nil {
		return nil
	}
	var errs []error
	if c.W != nil && c.W != "majority" {
		errs = append(errs, errors.New("the option w of the store's URL: expected majority, or no such option, because a write that fewer members have can be lost"))
	}
	if c.Journal != nil && !*c.Journal {
		errs = append(errs, errors.New("the option journal of the store's URL: expected true, or no such option, because a write outside the journal can be lost"))
	}
	return errors.Join(errs...)
}

func weakReads(c *readconcern.ReadConcern, p *readpref.ReadPref) error {
	var errs []error
	if c != nil && c.Level != "" && c.Level != "majority" {
		errs = append(errs, errors.New("the option readConcernLevel of the store's URL: expected majority, or no such option, because other reads can show what is lost again"))
	}
	if p != nil && p.Mode() != readpref.PrimaryMode {
		errs = append(errs, errors.New("the option readPreference of the store's URL: expected primary, or no such option, because other members may not know yet that a token is revoked"))
	}
	return errors.Join(errs...)
}

// start checks the server and prepares the database.
func (s *Store) start(ctx context.Context) error {
	if err := s.checkServer(ctx); err != nil {
		return explain(err)
	}
	if s.opt.AsIs {
		return explain(s.upToDate(ctx))
	}
	if err := s.migrate(ctx); err != nil {
		return explain(err)
	}
	if err := s.choose(ctx); err != nil {
		return explain(err)
	}
	return nil
}

// abilities are what a server can do beyond what all of them can. They come from
// what it says it is: trying would not tell, for some accept what they then do
// wrong.
type abilities struct {
	transactions bool // and snapshots
	elements     bool // $elemMatch finds elements by any condition
	projections  bool // findAndModify can return some fields only
	partial      bool // indexes may leave documents out
	shards       bool // it is the router of a sharded cluster
}

// oldestWireVersion is that of MongoDB 6.0.
const oldestWireVersion = 17

// checkServer refuses a server that cannot keep what this package promises.
func (s *Store) checkServer(ctx context.Context) error {
	admin := s.client.Database("admin")
	var hello struct {
		SetName string `bson:"setName"`
		Msg     string `bson:"msg"`
		Wire    int    `bson:"maxWireVersion"`
	}
	if err := admin.RunCommand(ctx, d("hello", 1)).Decode(&hello); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	build, err := admin.RunCommand(ctx, d("buildInfo", 1)).Raw()
	if err != nil {
		return fmt.Errorf("ask the server for its version: %w", err)
	}
	other := lookalike(build)
	if other != "" && !s.opt.AllowLookalike {
		return fmt.Errorf("the server is %s: expected MongoDB, because others that speak its protocol do not make updates atomic", other)
	}
	if hello.Wire < oldestWireVersion {
		return fmt.Errorf("the server is MongoDB %s: expected 6.0 or newer", text(build, "version"))
	}
	s.can = abilities{
		transactions: hello.SetName != "" || hello.Msg == "isdbgrid",
		shards:       hello.Msg == "isdbgrid",
		elements:     other == "",
		projections:  other == "",
		partial:      other == "",
	}
	if !s.can.transactions {
		if !s.opt.AllowStandalone {
			return errors.New("the server is standalone, and without transactions a change could be stored without its audit entry: " +
				"expected a replica set (one member is enough) or a sharded cluster; allow-standalone accepts it for trying things out")
		}
		s.opt.Log.Warn("the MongoDB server is standalone: writes are not atomic and not replicated")
		return nil
	}
	return s.checkDefaults(ctx, admin)
}

// lookalike returns the name of a server that is not MongoDB, or "".
func lookalike(build bson.Raw) string {
	elements, _ := build.Elements()
	for _, e := range elements {
		if strings.Contains(strings.ToLower(e.Key()), "ferretdb") {
			return "FerretDB"
		}
	}
	return ""
}

// checkDefaults reads the cluster's defaults back. This store asks for its own
// concerns, but whoever set weaker ones does not expect writes to survive, and
// other tools that write here would use them.
func (s *Store) checkDefaults(ctx context.Context, admin *mongo.Database) error {
	var defaults struct {
		Write struct {
			W any   `bson:"w"`
			J *bool `bson:"j"`
		} `bson:"defaultWriteConcern"`
		Read struct {
			Level string `bson:"level"`
		} `bson:"defaultReadConcern"`
	}
	err := admin.RunCommand(ctx, d("getDefaultRWConcern", 1)).Decode(&defaults)
	switch {
	case hasCode(err, codeUnauthorized):
		s.opt.Log.Warn("the cluster's default write concern could not be read back: the store's user is not allowed to run getDefaultRWConcern")
		return nil
	case err != nil:
		return fmt.Errorf("read the cluster's defaults back: %w", err)
	case defaults.Write.W != nil && defaults.Write.W != "majority":
		return errors.New("the cluster's defaultWriteConcern has a w other than majority: set it to {w: \"majority\"} with setDefaultRWConcern")
	case defaults.Write.J != nil && !*defaults.Write.J:
		return errors.New("the cluster's defaultWriteConcern has j: false: set it to {w: \"majority\", j: true} with setDefaultRWConcern")
	case defaults.Read.Level == "available":
		return errors.New("the cluster's defaultReadConcern is available: set it to majority or local with setDefaultRWConcern")
	}
	return nil
}

// schemaVersion says which documents and indexes this program knows. It grows
// when they change; see upgrade.
const schemaVersion = 3

// indexes are those of each collection besides that of _id.
var indexes = []struct {
	collection string
	keys       []bson.D
}{
	{resources, []bson.D{
		d(fTenant, 1, fType, 1, fResource, 1),               // lists and totals
		d(fTenant, 1, fType, 1, fModified, 1, fResource, 1), // meta.lastModified
		d(fTenant, 1, fType, 1, fKeys, 1, fResource, 1),     // equality on unique and indexed attributes
		deletedByTime,
	}},
	{keys, nil},
	{rows, []bson.D{d(fTenant, 1, fKind, 1, fNumber, 1)}}, // the groups of a member; the audit trail by number
	{clients, []bson.D{d(fTenant, 1, fName, 1)}},
	{tokens, []bson.D{d(fTenant, 1, fClient, 1)}},
	{tenants, nil},
	{counters, nil},
	{meta, nil},
	{items, []bson.D{d(fTenant, 1, fFound, 1, fID, 1), d(fExpires, 1)}},
}

// deletedByTime is the index of deleted resources. It has no others in it, where the
// server can leave them out.
var deletedByTime = d(fTenant, 1, fType, 1, fDeleted, 1, fResource, 1)

// large are the collections that a sharded cluster splits, by shardKey, which needs
// an index where there is something already.
var (
	large    = []string{resources, keys, rows, items}
	shardKey = d(fTenant, 1, fID, 1)
)

// migrate brings the database to this program's schema. Every step may be done
// twice and by several processes at once.
func (s *Store) migrate(ctx context.Context) error {
	if _, _, err := s.schema(ctx); err != nil {
		return err
	}
	for _, c := range indexes {
		// A collection that exists before the first transaction spares it the
		// making of one, which is a conflict when two do it.
		if err := s.db.CreateCollection(ctx, c.collection); err != nil && !hasCode(err, codeNamespaceExists) {
			return fmt.Errorf("create the collection %s: %w", c.collection, err)
		}
		keys := c.keys
		if s.can.shards && slices.Contains(large, c.collection) {
			keys = append(slices.Clip(keys), shardKey)
		}
		for _, k := range keys {
			model := mongo.IndexModel{Keys: k}
			if s.can.partial && &k[0] == &deletedByTime[0] {
				model.Options = options.Index().SetPartialFilterExpression(d(fDeleted, d("$gt", int64(0))))
			}
			if _, err := s.db.Collection(c.collection).Indexes().CreateOne(ctx, model); err != nil {
				return fmt.Errorf("create an index of %s: %w", c.collection, err)
			}
		}
	}
	tenant := d(fName, "Default tenant", fCreated, time.Now().UnixMilli())
	if err := s.ensure(ctx, tenants, string(storage.DefaultTenant), d("$setOnInsert", tenant)); err != nil {
		return fmt.Errorf("create the default tenant: %w", err)
	}
	for {
		have, oldest, err := s.schema(ctx)
		if err != nil {
			return err
		}
		var update bson.D
		switch {
		case have == 0:
			err = s.ensure(ctx, meta, "schema", d("$setOnInsert", d(fSchema, schemaVersion)))
		case have < schemaVersion:
			// From now on no older program starts, for it would lose what is moved.
			update = d("$set", d(fSchema, schemaVersion), "$min", d(fOldest, have))
		case oldest == 0:
			return nil
		default:
			if err := s.upgrade(ctx); err != nil {
				return fmt.Errorf("migrate the store: %w", err)
			}
			update = d("$unset", d(fOldest, ""))
		}
		if update != nil {
			_, err = s.db.Collection(meta).UpdateOne(ctx, d(fID, "schema", fSchema, have), update)
		}
		if err != nil {
			return fmt.Errorf("note the schema version: %w", err)
		}
	}
}

// upToDate refuses what migrate would change.
func (s *Store) upToDate(ctx context.Context) error {
	have, oldest, err := s.schema(ctx)
	switch {
	case err != nil:
		return err
	case have == 0:
		return storage.ErrNoStore
	case have < schemaVersion || oldest != 0:
		return fmt.Errorf("%w (schema version %d, and this one is for %d)", storage.ErrOtherVersion, have, schemaVersion)
	}
	return nil
}

// schema returns the version the database has, 0 for a new one, and that of the
// oldest documents in it, 0 if all are of the same. It refuses one that is too new.
func (s *Store) schema(ctx context.Context) (have, oldest int64, err error) {
	raw, err := s.db.Collection(meta).FindOne(ctx, d(fID, "schema")).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the schema version: %w", err)
	}
	if have = number(raw, fSchema); have > schemaVersion {
		return 0, 0, fmt.Errorf("the store has schema version %d, this program knows %d: use a newer roster", have, schemaVersion)
	}
	return have, number(raw, fOldest), nil
}

// ensure updates a document that is made if it is not there. Of two processes
// that make it at once one finds it made.
func (s *Store) ensure(ctx context.Context, collection, id string, update bson.D) error {
	for again := false; ; again = true {
		_, err := s.db.Collection(collection).UpdateOne(ctx, d(fID, id), update, options.UpdateOne().SetUpsert(true))
		if !mongo.IsDuplicateKeyError(err) || again {
			return err
		}
	}
}
