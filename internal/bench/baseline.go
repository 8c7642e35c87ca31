package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/server"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage/sqlite"
)

// BaselineOptions are the parts of a baseline server.
type BaselineOptions struct {
	Store     string // path of the store
	Listen    string
	OpsListen string
	// User is a user as the SCIM server answers with it, Page a page of them.
	// The baseline sends and stores the same bytes.
	User, Page []byte
	// Rows is how many rows the store has before the server is ready; see rowID.
	Rows int
	// MaxConns and MaxConnsPerIP are those of the server to compare with.
	MaxConns, MaxConnsPerIP int
	Log                     *slog.Logger
}

// baseline is the limit that SCIM is measured against: its routes run in the
// same HTTP server, through the same middleware, on the same store, and do
// nothing but what cannot be left out.
type baseline struct {
	rows       *sqlite.Baseline
	user, page []byte
}

// ServeBaseline fills the store and serves until ctx ends. ready is told the
// addresses as soon as requests are welcome.
func ServeBaseline(ctx context.Context, opt BaselineOptions, ready func(base, ops string)) (err error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	store, err := sqlite.Open(ctx, opt.Store, sqlite.Options{OnCommit: server.NewStoreMetrics(registry, "sqlite").Committed, Log: opt.Log})
	if err != nil {
		return fmt.Errorf("open the store of the baseline: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	rows, err := sqlite.NewBaseline(ctx, store)
	if err != nil {
		return err
	}
	b := &baseline{rows: rows, user: opt.User, page: opt.Page}
	if err := b.fill(ctx, opt.Rows); err != nil {
		return fmt.Errorf("fill the baseline: %w", err)
	}
	srv, err := server.New(server.Options{
		Mounts: []server.Mount{{Routes: b.routes()}}, Log: opt.Log, Registry: registry,
		Listen: opt.Listen, OpsListen: opt.OpsListen, MaxConns: opt.MaxConns, MaxConnsPerIP: opt.MaxConnsPerIP, Ready: store.Ping,
	})
	if err != nil {
		return err
	}
	ops := ""
	if a := srv.OpsAddr(); a != nil {
		ops = "http://" + a.String()
	}
	ready("http://"+srv.Addr().String(), ops)
	return srv.Run(ctx, ctx)
}

// fillers is how many writes wait at a time, so that each commit is a full one.
const fillers = 256

func (b *baseline) fill(ctx context.Context, rows int) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(fillers, rows) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= rows {
					return nil
				}
				if err := b.rows.Write(ctx, rowID(i), b.user); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// rowID returns the id of the i-th row. It is a UUIDv7 older than any that is
// made now, so that the index grows at its end as that of resources does.
func rowID(i int) string {
	return fmt.Sprintf("%08x-%04x-7000-8000-000000000000", 0x01900000+i>>16, i&0xffff)
}

func (b *baseline) routes() []scim.Route {
	return []scim.Route{
		{Method: "GET", Path: "/fixed", Needs: auth.Public(), Serve: bytesOf(b.user)},
		{Method: "GET", Path: "/page", Needs: auth.Public(), Serve: bytesOf(b.page)},
		{Method: "GET", Path: "/row/{id}", Needs: auth.Public(), Serve: b.read},
		{Method: "POST", Path: "/row", Needs: auth.Public(), Serve: b.write},
	}
}

func bytesOf(body []byte) func(http.ResponseWriter, *http.Request, auth.Principal) error {
	return func(w http.ResponseWriter, _ *http.Request, _ auth.Principal) error {
		return answer(w, http.StatusOK, body)
	}
}

func (b *baseline) read(w http.ResponseWriter, r *http.Request, _ auth.Principal) error {
	doc, err := b.rows.Read(r.Context(), mux.Vars(r)["id"])
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, doc)
}

func (b *baseline) write(w http.ResponseWriter, r *http.Request, _ auth.Principal) error {
	if r.ContentLength < 0 || r.ContentLength > scim.MaxBody {
		return &scim.Error{Status: http.StatusRequestEntityTooLarge, Detail: "expected a body with a length"}
	}
	doc := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, doc); err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	if err := b.rows.Write(r.Context(), id.String(), doc); err != nil {
		return err
	}
	w.Header().Set("Location", "/row/"+id.String())
	return answer(w, http.StatusCreated, doc)
}

func answer(w http.ResponseWriter, status int, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", mediaSCIM)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}
