package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says what is measured.
type Config struct {
	Users       int           // the population
	Small       int           // the small population it is compared with
	Connections int           // of the rows without a number of their own
	Duration    time.Duration // of one row in one round
	Rounds      int
	Seed        uint64   // decides the users and who is asked for
	Only        []string // names of rows, see Names; empty for all
	// Server is a running server to measure. Without one, Run starts its own.
	Server *Server
	// Keep leaves what was created on Server there. Own servers are always
	// removed with all they have.
	Keep bool
	// Version is that of this program, for the report.
	Version  string
	Progress io.Writer // told what is going on; may be nil
}

// Names of what can be measured, in the order in which it is.
const (
	Start         = "start"
	Resident      = "memory"
	BaselineFixed = "baseline-fixed"
	BaselineRead  = "baseline-read"
	Get           = "get"
	Filter        = "filter"
	BaselinePage  = "baseline-page"
	Page          = "page"
	PageFar       = "page-far"
	BaselineWrite = "baseline-write"
	Create        = "create"
	Patch         = "patch"
	MemberAdd     = "member-add"
	MemberRemove  = "member-remove"
)

// Names returns what Config.Only may name.
func Names() []string {
	return []string{
		Start, Resident, BaselineFixed, BaselineRead, Get, Filter, BaselinePage, Page, PageFar, BaselineWrite, Create, Patch,
		MemberAdd, MemberRemove,
	}
}

// needs is what has to be measured, too, to say how good a row is. Adding and
// removing a member go together.
var needs = map[string][]string{
	Get:       {BaselineRead},
	Filter:    {Get},
	Page:      {BaselinePage},
	PageFar:   {Page},
	Create:    {BaselineWrite},
	Patch:     {BaselineWrite},
	MemberAdd: {MemberRemove}, MemberRemove: {MemberAdd},
}

// Validate reports everything that is wrong with c in one error.
func (c *Config) Validate() error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int
	}{{"users", c.Users}, {"small", c.Small}, {"connections", c.Connections}, {"rounds", c.Rounds}} {
		if n.value < 1 {
			errs = append(errs, fmt.Errorf("%s: expected at least 1", n.name))
		}
	}
	if c.Duration <= 0 {
		errs = append(errs, errors.New("duration: expected more than 0"))
	}
	for _, name := range c.Only {
		if !slices.Contains(Names(), name) {
			errs = append(errs, fmt.Errorf("only: there is no row %q; there are %s", name, strings.Join(Names(), ", ")))
		}
		if name == Start && c.Server != nil {
			errs = append(errs, errors.New("only: the start of a server that runs already cannot be measured"))
		}
	}
	return errors.Join(errs...)
}

// run is one run of the load generator.
type run struct {
	cfg    Config
	spawn  Spawner
	report *Report
	wanted map[string]bool
	seed   uint64
	stops  []func() error // what has to be undone at the end, in order

	big, small *population
	base       *Server // the baseline
	sample     []byte  // a user as the server answers with it
	talk       sync.Mutex
}

// Run measures and reports. Everything it started has ended when it returns,
// also when ctx ends early.
func Run(ctx context.Context, cfg Config, spawn Spawner) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &run{cfg: cfg, spawn: spawn, seed: cfg.Seed, wanted: map[string]bool{}, report: newReport(cfg)}
	if r.cfg.Only == nil {
		r.cfg.Only = Names()
	}
	r.want(r.cfg.Only)
	err := r.measure(ctx)
	for _, stop := range slices.Backward(r.stops) {
		err = errors.Join(err, stop())
	}
	if ctx.Err() != nil {
		// That connections broke then is no news.
		return nil, fmt.Errorf("stopped early: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, err
	}
	r.report.finish()
	return r.report, nil
}

// want notes rows and what they need.
func (r *run) want(names []string) {
	for _, n := range names {
		if !r.wanted[n] {
			r.wanted[n] = true
			r.want(needs[n])
		}
	}
}

func (r *run) wants(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return r.wanted[n] })
}

func (r *run) measure(ctx context.Context) error {
	own := r.cfg.Server == nil
	if own && r.wants(Start) {
		if err := r.starts(ctx); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	if !r.wants(Names()[1:]...) {
		return nil
	}
	if err := r.populate(ctx, own); err != nil {
		return err
	}
	if r.wants(BaselineFixed, BaselineRead, BaselinePage, BaselineWrite) {
		if err := r.startBaseline(ctx); err != nil {
			return err
		}
	}
	for _, stage := range []func(context.Context) error{r.reads, r.pages, r.writes, r.members} {
		if err := stage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// populate makes the populations there are to be.
func (r *run) populate(ctx context.Context, own bool) (err error) {
	s := r.cfg.Server
	if own {
		if s, err = r.start(ctx, "a server", r.spawn.Roster); err != nil {
			return err
		}
	}
	r.big = &population{on: s, people: people{r.cfg.Seed}}
	if !own && !r.cfg.Keep {
		r.stops = append(r.stops, func() error { return r.cleanUp(ctx) })
	}
	if r.wants(Resident) {
		if err := r.memory(ctx, own); err != nil {
			return fmt.Errorf("memory: %w", err)
		}
	} else if err := r.load(ctx, r.big, r.cfg.Users); err != nil {
		return err
	}
	if own && r.cfg.Small < r.cfg.Users && r.wants(Get, Filter, Page, Create, Patch) {
		if s, err = r.start(ctx, "a server", r.spawn.Roster); err != nil {
			return err
		}
		r.small = &population{on: s, people: people{r.cfg.Seed}}
		return r.load(ctx, r.small, r.cfg.Small)
	}
	return nil
}

// startBaseline gives the baseline the bytes that the SCIM server answers with.
func (r *run) startBaseline(ctx context.Context) error {
	if host, ok := remote(r.big.on.URL); ok {
		r.report.note("%s is another machine, where the baselines would have to run; they were left out", host)
		return nil
	}
	c, err := dial(ctx, r.big.on)
	if err != nil {
		return err
	}
	defer c.Close()
	fetch := func(path, part string) ([]byte, error) {
		c.path = append(c.path[:0], path...)
		if err := c.do("GET", nil); err != nil {
			return nil, err
		}
		return slices.Clone(c.body), c.expect(200, part)
	}
	if r.sample, err = fetch("/Users/"+r.big.ids[0], r.big.ids[0]); err != nil {
		return err
	}
	count := min(pageSize, r.cfg.Users)
	page, err := fetch(fmt.Sprintf("/Users?count=%d", count), fmt.Sprintf(`"itemsPerPage":%d`, count))
	if err != nil {
		return err
	}
	r.report.Settings.UserBytes, r.report.Settings.PageBytes = len(r.sample), len(page)
	r.base, err = r.start(ctx, "the baseline", func(ctx context.Context) (*Server, error) {
		return r.spawn.Baseline(ctx, r.sample, page, r.cfg.Users)
	})
	return err
}

// start starts a server that is stopped at the end.
func (r *run) start(ctx context.Context, what string, spawn func(context.Context) (*Server, error)) (*Server, error) {
	r.sayf("starting %s\n", what)
	s, err := spawn(ctx)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", what, err)
	}
	r.stops = append(r.stops, s.Stop)
	return s, nil
}

// remote returns the host of an address if it is not this machine.
func remote(address string) (host string, is bool) {
	u, err := url.Parse(address)
	if err != nil {
		return address, true
	}
	host = u.Hostname()
	if host == "localhost" {
		return host, false
	}
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.Unmap().IsLoopback() {
		return host, false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return host, true
	}
	return host, !slices.ContainsFunc(own, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.String() == host
	})
}

// sayf tells people how far the run is. Nothing depends on whether they see it.
func (r *run) sayf(format string, args ...any) {
	if r.cfg.Progress != nil {
		r.talk.Lock()
		defer r.talk.Unlock()
		_, _ = fmt.Fprintf(r.cfg.Progress, format, args...)
	}
}

func newReport(cfg Config) *Report {
	rep := &Report{
		Format: Format, Started: time.Now().UTC().Truncate(time.Second), Version: cfg.Version,
		Machine: Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()},
		Settings: Settings{
			Users: cfg.Users, Connections: cfg.Connections, Seconds: cfg.Duration.Seconds(), Rounds: cfg.Rounds, Seed: cfg.Seed,
		},
		Loads: []Load{}, Rows: []*Row{}, Targets: []Target{}, Notes: []string{},
	}
	if cfg.Server != nil {
		rep.Settings.URL = cfg.Server.URL
	}
	return rep
}
