package bench

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	driver "go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
	"github.com/roster-id/roster/storage/mongo"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

const scaleFile = "../../docs/scale.md"

// TestSizes measures documents as MongoDB has them, and holds what docs/scale.md
// plans with against that.
func TestSizes(t *testing.T) {
	const count = 600
	server := mongotest.Start(t)
	database := server.NewDatabase(t)
	store, err := mongo.Open(t.Context(), server.URI(database), mongo.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	set, err := schemas.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := &scim.Provider{Store: store, Schemas: set, Hasher: auth.NewWeakHasher(), Now: time.Now}
	by := auth.Principal{Kind: auth.Operator, Tenant: storage.DefaultTenant}
	create := func(typ string, text []byte) *storage.Resource {
		t.Helper()
		body, err := schemas.Decode(text, schemas.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Create(t.Context(), by, set.Type(typ), body)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return r
	}
	sent := 0
	var members []string
	for i := range count {
		text := people{}.appendUser(nil, i)
		sent += len(text)
		members = append(members, `{"value":"`+create("User", text).ID+`"}`)
	}
	create("Group", fmt.Appendf(nil, `{"displayName":"Everybody who is here","externalId":"g-1","members":[%s]}`, strings.Join(members, ",")))

	client, err := driver.Connect(options.Client().ApplyURI(server.URI(database)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	mean := func(collection string, filter bson.D) int {
		t.Helper()
		cursor, err := client.Database(database).Collection(collection).Find(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		n, bytes := 0, 0
		for cursor.Next(t.Context()) {
			n, bytes = n+1, bytes+len(cursor.Current)
		}
		if err := cursor.Err(); err != nil || n == 0 {
			t.Fatalf("%s: %d documents, %v", collection, n, err)
		}
		return bytes / n
	}
	page, err := os.ReadFile(scaleFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of JSON on average", sent/count)
	member := bson.D{{Key: "g", Value: bson.D{{Key: "$exists", Value: true}}}}
	for row, got := range map[string]int{
		"user":                   mean("resources", bson.D{{Key: "y", Value: "User"}}),
		"group, without members": mean("resources", bson.D{{Key: "y", Value: "Group"}}),
		"unique key":             mean("keys", bson.D{}),
		"membership":             mean("rows", member),
		"audit entry":            mean("rows", bson.D{{Key: "g", Value: bson.D{{Key: "$exists", Value: false}}}}),
	} {
		t.Logf("%s: %d bytes", row, got)
		m := regexp.MustCompile(`(?m)^\| ` + row + ` \| ([0-9,]+)(?: to ([0-9]+))? B`).FindSubmatch(page)
		if m == nil {
			t.Errorf("%s gives no size of: %s", scaleFile, row)
			continue
		}
		low, _ := strconv.Atoi(strings.ReplaceAll(string(m[1]), ",", ""))
		high := low
		if len(m[2]) > 0 {
			high, _ = strconv.Atoi(string(m[2]))
		}
		if got*100 < low*90 || got*100 > high*110 {
			t.Errorf("%s has %d bytes; %s plans with %s", row, got, scaleFile, m[0])
		}
	}
}
