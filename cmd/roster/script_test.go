package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/roster-id/roster/internal/audit"
	"github.com/roster-id/roster/storage/mongo/mongotest"
)

// TestScripts replays the sessions in testdata. Beside the commands of
// testscript they use:
//
//	serve [flag...]                              start a server in the background and wait until it is ready;
//	                                             $SCIM, $SERVER and $OPS are where, server.out and server.err what it prints
//	signal INT|TERM|KILL                         send the server a signal and wait for a clean end (or a sudden one)
//	http STATUS METHOD URL [TOKEN|-] [BODYFILE]  send a request, expect the status; stdout is the body
//	headers STATUS URL TOKEN                     http GET; stdout is the entity tag and the body
//	id NAME                                      keep the id of the resource on stdout in $NAME
//	fill FILE VALUE...                           replace $1, $2 … in a file
//	push N TOKEN                                 create as many users
//	token NAME                                   expect stdout to be one line with a token, and keep it in $NAME
//	checkpoint STORE FILE                        make a checkpoint of all there is, in FILE too; $PUBLIC_KEY is that of the signer
//	sql FILE STATEMENT                           change the rows of an embedded store that nobody has opened
//	mongodb [standalone]                         start a MongoDB server; $MONGODB is the URL of an empty database
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": scriptServe, "signal": scriptSignal, "http": scriptHTTP, "token": scriptToken,
			"headers": scriptHeaders, "id": scriptID, "fill": scriptFill, "push": scriptPush,
			"checkpoint": scriptCheckpoint, "sql": scriptSQL,
			"mongodb": func(ts *testscript.TestScript, neg bool, args []string) { scriptMongoDB(t, ts, neg, args) },
		},
		Setup: func(e *testscript.Env) error {
			e.Values[running{}] = &running{}
			e.Vars = append(e.Vars, quickExit)
			return nil
		},
	})
}

// running is the server of a script.
type running struct{ *process }

func runningIn(ts *testscript.TestScript) *running { return ts.Value(running{}).(*running) }

func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("use ! exec roster serve for a server that does not start")
	}
	env := []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), quickExit}
	for _, name := range []string{"ROSTER_CONFIG", "ROSTER_STORE", "ROSTER_LOG_FORMAT", "ROSTER_LISTN", "ROSTER_ALLOW_STANDALONE", "ROSTER_INDEX_ATTRIBUTES"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	s, err := launch{dir: ts.MkAbs("."), env: env, args: args}.start()
	ts.Check(err)
	ts.Defer(s.kill)
	runningIn(ts).process = s
	ts.Setenv("SCIM", s.scim)
	ts.Setenv("SERVER", strings.TrimSuffix(s.scim, "/scim/v2"))
	ts.Setenv("OPS", s.ops)
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	if neg || len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal INT|TERM|KILL")
	}
	ts.Check(runningIn(ts).end(signals[args[0]]))
}

func scriptHTTP(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 5 {
		ts.Fatalf("usage: http STATUS METHOD URL [TOKEN|-] [BODYFILE]")
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	token, body := "", ""
	if len(args) > 3 && args[3] != "-" {
		token = args[3]
	}
	if len(args) > 4 {
		body = ts.ReadFile(args[4])
	}
	// SCIM takes it too (RFC 7644 §3.1), and the other interfaces nothing else.
	res, got, err := runningIn(ts).do(args[1], args[2], token, body, "Content-Type", "application/json")
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), got)
	if res.StatusCode != status {
		ts.Fatalf("the answer is %s; want %d\n%s", res.Status, status, got)
	}
}

func scriptToken(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: token NAME")
	}
	out := ts.ReadFile("stdout")
	if !oneToken.MatchString(out) {
		ts.Fatalf("stdout is %q; want one line with a token", out)
	}
	ts.Setenv(args[0], strings.TrimSpace(out))
}

func scriptHeaders(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: headers STATUS URL TOKEN")
	}
	res, got, err := runningIn(ts).do("GET", args[1], args[2], "")
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s\n", res.Header.Get("ETag"), got)
	if strconv.Itoa(res.StatusCode) != args[0] {
		ts.Fatalf("the answer is %s; want %s\n%s", res.Status, args[0], got)
	}
}

func scriptID(ts *testscript.TestScript, neg bool, args []string) {
	var r struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &r); neg || len(args) != 1 || err != nil || r.ID == "" {
		ts.Fatalf("usage: id NAME, with a resource on stdout: %v", err)
	}
	ts.Setenv(args[0], r.ID)
}

// testSigner signs checkpoints in scripts.
type testSigner struct{}

func (testSigner) Signer() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
}

func scriptCheckpoint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: checkpoint STORE FILE")
	}
	store, err := openExisting(context.Background(), place{kind: embedded, location: ts.MkAbs(args[0]) + "/"})
	ts.Check(err)
	ended, cancel := context.WithCancel(context.Background())
	cancel() // which is when the last one is made
	c := &audit.Checkpointer{Store: store, Signer: testSigner{}, Now: time.Now, Log: slog.New(slog.DiscardHandler), File: ts.MkAbs(args[1])}
	ts.Check(c.Run(ended))
	ts.Check(store.Close())
	ts.Setenv("PUBLIC_KEY", audit.KeyText(testSigner{}.Signer().Public().(ed25519.PublicKey)))
}

func scriptSQL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sql FILE STATEMENT")
	}
	c, err := sqlite.OpenConn(ts.MkAbs(args[0]), sqlite.OpenReadWrite)
	ts.Check(err)
	ts.Check(sqlitex.ExecuteTransient(c, args[1], nil))
	ts.Check(c.Close())
}

func scriptFill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fill FILE VALUE...")
	}
	text := ts.ReadFile(args[0])
	for i, v := range args[1:] {
		text = strings.ReplaceAll(text, fmt.Sprint("$", i+1), v)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func scriptPush(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: push N TOKEN")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	s := runningIn(ts)
	var g errgroup.Group
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error {
			body := fmt.Sprintf(`{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"pushed%d","emails":[{"value":"pushed%d@example.com"}]}`, i, i)
			return s.expect(201, "POST", "/Users", args[1], body)
		})
	}
	ts.Check(g.Wait())
}
func scriptMongoDB(t *testing.T, ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case !neg && len(args) == 0:
		s := mongotest.Start(t)
		ts.Setenv("MONGODB", s.URI(s.NewDatabase(t)))
	case !neg && len(args) == 1 && args[0] == "standalone":
		s := mongotest.StartDouble(t, mongotest.Config{Standalone: true})
		ts.Setenv("MONGODB", s.URI(s.NewDatabase(t)))
	default:
		ts.Fatalf("usage: mongodb [standalone]")
	}
}
