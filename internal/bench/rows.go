package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	pageSize = 100
	// memberConnections is how many clients change one group at the same time.
	memberConnections = 8
	// memberPortion is how many members one request adds when a group is filled.
	memberPortion = 1000
	// joiners is how many users each of these connections adds and removes.
	joiners = 16
)

// groupSizes are those of the groups that members are added to and removed
// from.
var groupSizes = []int{0, 1000, 100_000}

// population is the users of a server.
type population struct {
	on     *Server
	people people
	ids    []string // of the i-th user of people
	groups []string
	next   atomic.Int64 // the number of the next user to be created
	turn   atomic.Int64 // makes every value that is written a new one
}

// load adds n users.
func (r *run) load(ctx context.Context, p *population, n int) error {
	first := len(p.ids)
	p.ids = slices.Grow(p.ids, n)[:first+n]
	p.next.Store(int64(len(p.ids)))
	r.sayf("loading %s users", grouped(n))
	began := time.Now()
	err := each(ctx, p.on, r.cfg.Connections, n, func(w *worker, i int) (err error) {
		if n >= 10_000 && i%(n/20) == 0 {
			r.sayf(".")
		}
		p.ids[first+i], err = p.create(w, 0, first+i)
		return err
	})
	took := time.Since(began)
	if err != nil {
		r.sayf("\n")
		return fmt.Errorf("load: %w", err)
	}
	l := Load{Users: n, Connections: r.cfg.Connections, Seconds: took.Seconds(), PerSecond: float64(n) / took.Seconds()}
	r.report.Loads = append(r.report.Loads, l)
	r.sayf(" in %s, %s/s\n", took.Round(10*time.Millisecond), grouped(l.PerSecond))
	return nil
}

// create posts the i-th user and returns the id it got.
func (p *population) create(w *worker, kind, i int) (string, error) {
	w.path = append(w.path[:0], "/Users"...)
	w.json = p.people.appendUser(w.json[:0], i)
	if err := w.send(kind, "POST", w.json); err != nil {
		return "", err
	}
	if err := w.expect(201, p.people.userName(i)); err != nil {
		return "", err
	}
	return w.madeID()
}

// some returns the number of some user.
func (p *population) some(w *worker) int { return w.rand.IntN(len(p.ids)) }

// reads measures how one user is found.
func (r *run) reads(ctx context.Context) error {
	return r.turns(
		ctx,
		r.onBaseline(BaselineFixed, func(w *worker) error {
			w.path = append(w.path[:0], "/fixed"...)
			return r.fetched(w)
		}),
		r.onBaseline(BaselineRead, func(w *worker) error {
			w.path = append(append(w.path[:0], "/row/"...), rowID(w.rand.IntN(r.cfg.Users))...)
			return r.fetched(w)
		}),
		r.get(r.big), r.get(r.small),
		r.filter(r.big), r.filter(r.small),
	)
}

// fetched gets the user that the baseline has.
func (r *run) fetched(w *worker) error {
	if err := w.send(0, "GET", nil); err != nil {
		return err
	}
	if len(w.body) != len(r.sample) {
		return w.wrong("expected %d bytes", len(r.sample))
	}
	return w.expect(200)
}

func (r *run) get(p *population) *task {
	return r.on(p, Get, func(w *worker) error {
		id := p.ids[p.some(w)]
		w.path = append(append(w.path[:0], "/Users/"...), id...)
		if err := w.send(0, "GET", nil); err != nil {
			return err
		}
		return w.expect(200, id)
	})
}

func (r *run) filter(p *population) *task {
	return r.on(p, Filter, func(w *worker) error {
		i := p.some(w)
		w.path = append(w.path[:0], "/Users?filter=userName%20eq%20%22"...)
		w.path = append(p.people.appendUserName(w.path, i), "%22"...)
		if err := w.send(0, "GET", nil); err != nil {
			return err
		}
		return w.expect(200, `"totalResults":1,`, p.ids[i])
	})
}

// pages measures lists.
func (r *run) pages(ctx context.Context) error {
	size := 0
	if r.base != nil {
		size = r.report.Settings.PageBytes
	}
	return r.turns(
		ctx,
		r.onBaseline(BaselinePage, func(w *worker) error {
			w.path = append(w.path[:0], "/page"...)
			if err := w.send(0, "GET", nil); err != nil {
				return err
			}
			if len(w.body) != size {
				return w.wrong("expected %d bytes", size)
			}
			return w.expect(200)
		}),
		r.list(r.big, Page, 1), r.list(r.small, Page, 1),
		// A page has to be a full one, or it would be no match for the first.
		r.list(r.big, PageFar, max(1, min(r.cfg.Users*9/10, r.cfg.Users-pageSize)+1)),
	)
}

func (r *run) list(p *population, name string, startIndex int) *task {
	if p == nil {
		return nil
	}
	count := min(pageSize, len(p.ids)-startIndex+1)
	path := fmt.Sprintf("/Users?startIndex=%d&count=%d", startIndex, count)
	return r.on(p, name, func(w *worker) error {
		w.path = append(w.path[:0], path...)
		if err := w.send(0, "GET", nil); err != nil {
			return err
		}
		if err := w.expect(200); err != nil {
			return err
		}
		n, err := w.number("itemsPerPage")
		if err == nil && n != count {
			err = w.wrong("expected %d users and not %d", count, n)
		}
		return err
	})
}

// writes measures what has to reach the disk.
func (r *run) writes(ctx context.Context) error {
	return r.turns(
		ctx,
		r.onBaseline(BaselineWrite, func(w *worker) error {
			w.path = append(w.path[:0], "/row"...)
			if err := w.send(0, "POST", r.sample); err != nil {
				return err
			}
			if _, err := w.madeID(); err != nil {
				return err
			}
			return w.expect(201)
		}),
		r.creates(r.big), r.creates(r.small),
		r.patch(r.big), r.patch(r.small),
	)
}

func (r *run) creates(p *population) *task {
	t := r.on(p, Create, func(w *worker) error {
		id, err := p.create(w, 0, int(p.next.Add(1)-1))
		if err == nil {
			w.made = append(w.made, id)
		}
		return err
	})
	if t != nil {
		// The next round, and the rows after it, find the population as it was.
		t.after = func(ctx context.Context, made []string) error { return r.remove(ctx, p.on, "/Users/", made) }
	}
	return t
}

func (r *run) patch(p *population) *task {
	return r.on(p, Patch, func(w *worker) error {
		id := p.ids[p.some(w)]
		title := fmt.Sprintf(`"title":"Engineer %d"`, p.turn.Add(1))
		w.path = append(append(w.path[:0], "/Users/"...), id...)
		w.json = append(append(w.json[:0], patchHead+`{"op":"replace","value":{`...), title...)
		w.json = append(w.json, `}}]}`...)
		if err := w.send(0, "PATCH", w.json); err != nil {
			return err
		}
		return w.expect(200, id, title)
	})
}

const patchHead = `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`

// members measures changes of groups. It comes last, because users who belong
// to groups are more work to read.
func (r *run) members(ctx context.Context) error {
	if !r.wants(MemberAdd, MemberRemove) {
		return nil
	}
	p := r.big
	conns := min(memberConnections, r.cfg.Connections)
	users := len(p.ids)
	if err := r.load(ctx, p, conns*joiners); err != nil {
		return err
	}
	come := p.ids[users:]
	var tasks []*task
	sizes := map[int]bool{}
	for _, want := range groupSizes {
		size := min(want, users)
		if sizes[size] {
			continue
		}
		sizes[size] = true
		r.sayf("filling a group with %s members\n", grouped(size))
		group, err := p.makeGroup(ctx, size)
		if err != nil {
			return fmt.Errorf("fill a group: %w", err)
		}
		tasks = append(tasks, &task{
			rows: []*Row{r.memberRow(MemberAdd, size, want, conns), r.memberRow(MemberRemove, size, want, conns)}, on: p.on, conns: conns,
			step: func(w *worker) error {
				id := come[w.id*joiners+w.turn%joiners]
				w.path = append(append(w.path[:0], "/Groups/"...), group...)
				w.json = append(w.json[:0], patchHead+`{"op":"add","path":"members","value":[{"value":"`...)
				w.json = append(append(w.json, id...), `"}]}]}`...)
				if err := changed(w, 0); err != nil {
					return err
				}
				w.json = append(w.json[:0], patchHead+`{"op":"remove","path":"members[value eq \"`...)
				w.json = append(append(w.json, id...), `\"]"}]}`...)
				return changed(w, 1)
			},
		})
	}
	return r.turns(ctx, tasks...)
}

// changed patches a group. Whether it is part of the answer depends on its size.
func changed(w *worker, kind int) error {
	if err := w.send(kind, "PATCH", w.json); err != nil {
		return err
	}
	if w.status == 204 {
		return nil
	}
	return w.expect(200)
}

// makeGroup makes a group with the first users as members, and checks that the
// last of them is one.
func (p *population) makeGroup(ctx context.Context, size int) (string, error) {
	var group string
	err := each(ctx, p.on, 1, 1, func(w *worker, _ int) (err error) {
		w.path = append(w.path[:0], "/Groups"...)
		w.json = fmt.Appendf(w.json[:0], `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Bench, %s members"}`, grouped(size))
		if err := w.do("POST", w.json); err != nil {
			return err
		}
		if err := w.expect(201); err != nil {
			return err
		}
		if group, err = w.madeID(); err != nil {
			return err
		}
		p.groups = append(p.groups, group)
		for ids := range slices.Chunk(p.ids[:size], memberPortion) {
			w.path = append(append(w.path[:0], "/Groups/"...), group...)
			w.json = append(w.json[:0], patchHead+`{"op":"add","path":"members","value":[`...)
			for i, id := range ids {
				if i > 0 {
					w.json = append(w.json, ',')
				}
				w.json = append(append(append(w.json, `{"value":"`...), id...), `"}`...)
			}
			w.json = append(w.json, `]}]}`...)
			if err := changed(w, 0); err != nil {
				return err
			}
		}
		if size == 0 {
			return nil
		}
		w.path = fmt.Appendf(w.path[:0], "/Groups?attributes=displayName&filter=members.value%%20eq%%20%%22%s%%22", p.ids[size-1])
		if err := w.do("GET", nil); err != nil {
			return err
		}
		return w.expect(200, group)
	})
	return group, err
}

// remove deletes resources that the run created.
func (r *run) remove(ctx context.Context, s *Server, endpoint string, ids []string) error {
	return each(ctx, s, r.cfg.Connections, len(ids), func(w *worker, i int) error {
		w.path = append(append(w.path[:0], endpoint...), ids[i]...)
		if err := w.do("DELETE", nil); err != nil {
			return err
		}
		return w.expect(204)
	})
}

// cleanUp deletes from a server that is not ours what the run left there. That
// someone lost patience is no reason to leave it behind.
func (r *run) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
	defer cancel()
	p := r.big
	made := slices.DeleteFunc(slices.Clone(p.ids), func(id string) bool { return id == "" })
	r.sayf("deleting %s users and %d groups\n", grouped(len(made)), len(p.groups))
	return errors.Join(r.remove(ctx, p.on, "/Groups/", p.groups), r.remove(ctx, p.on, "/Users/", made))
}

// each calls do for 0 to n-1, on several connections at a time.
func each(ctx context.Context, s *Server, conns, n int, do func(w *worker, i int) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for id := range min(conns, n) {
		g.Go(func() error {
			c, err := dial(ctx, s)
			if err != nil {
				return err
			}
			defer c.Close()
			w := &worker{conn: c, id: id}
			w.reset()
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return nil
				}
				if err := do(w, i); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// on makes a task of one kind of request, or nil if it is not wanted or there
// is no such population.
func (r *run) on(p *population, name string, step func(*worker) error) *task {
	if p == nil || !r.wants(name) {
		return nil
	}
	row := r.report.newRow(name, len(p.ids), r.cfg.Connections)
	return &task{rows: []*Row{row}, on: p.on, conns: r.cfg.Connections, step: step}
}

func (r *run) onBaseline(name string, step func(*worker) error) *task {
	if r.base == nil || !r.wants(name) {
		return nil
	}
	row := r.report.newRow(name, r.cfg.Users, r.cfg.Connections)
	return &task{rows: []*Row{row}, on: r.base, conns: r.cfg.Connections, step: step}
}

func (r *run) memberRow(name string, size, want, conns int) *Row {
	row := r.report.newRow(name, r.cfg.Users, conns)
	row.GroupSize = &size
	if size < want {
		row.instead = want
	}
	return row
}

// grouped writes a number with commas between the thousands.
func grouped[T int | int64 | float64](v T) string {
	s := strconv.FormatInt(int64(float64(v)+0.5), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
