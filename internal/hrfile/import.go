package hrfile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/schemas"
)

const (
	// atOnce is how many requests are under way at a time.
	atOnce = 8
	// batchLength is how many operations one has, where the server takes as many.
	batchLength = 250
	// changesLength is how many of them there are where they change what there is. Some
	// stores carry those out one after the other: shorter requests wait beside each other.
	changesLength = 32
)

// Importer brings a file into a server.
type Importer struct {
	Client    *Client
	Mapping   *Mapping
	File      io.ReadSeeker // read several times
	JSONLines bool          // and not CSV
	DryRun    bool          // change nothing
	// DisableAnyway disables however many people are absent.
	DisableAnyway bool
	// Reject is told of each row that is not imported, and of each change that the server refused.
	Reject func(Reject) error
	// Preview is told of each change that would be made by a dry run; it may be nil.
	Preview func(Change) error
	// Progress is told how many of the rows are done; it may be nil.
	Progress func(done, rows int)

	mu      sync.Mutex
	entries map[string]*entry // by key
	seed    maphash.Seed
	result  Result
	unknown bool // there are rows nobody knows the key of
	maxOps  int
	maxSize int
}

// entry is what is kept of a person.
type entry struct {
	id     string // on the server, or ""
	digest uint64 // of the mapped attributes on the server
	line   int32  // in the file, or 0
	flags  flag
}

type flag uint8

const (
	active    flag = 1 << iota // on the server
	repeated                   // in the file
	ambiguous                  // several users of the server
	manages                    // somebody in the file
	rejected
	created // by this run
	late    // has a manager that was not there
)

// Reject is a row that is not imported. Its reason quotes no value.
type Reject struct {
	Line   int    `json:"line"` // 0 of somebody whom the file does not have
	Column string `json:"column,omitempty"`
	Reason string `json:"reason"`
}

// Change is what a row means for a user. It has values of persons.
type Change struct {
	Action     string            `json:"action"` // create, update or disable
	Line       int               `json:"line,omitempty"`
	Key        string            `json:"key"`
	ID         string            `json:"id,omitempty"`
	Attributes []AttributeChange `json:"attributes,omitempty"`
}

// AttributeChange is that of an attribute, in the order of the mapping. New of a manager
// who does not exist before the import is null; ManagerKey says who it will be.
type AttributeChange struct {
	Path       string `json:"path"`
	Old        any    `json:"old"`
	New        any    `json:"new"`
	ManagerKey string `json:"managerKey,omitempty"`

	field *field
}

// Result counts. In a dry run it says what would be done.
type Result struct {
	Rows      int  `json:"rows"`
	Created   int  `json:"created"`
	Updated   int  `json:"updated"`
	Unchanged int  `json:"unchanged"`
	Disabled  int  `json:"disabled"`
	Rejected  int  `json:"rejected"`
	DryRun    bool `json:"dryRun"`
	// NotDisabled is how many would have been, had the key of every row been legible.
	NotDisabled int `json:"notDisabled,omitempty"`
}

// StopError says that more people are absent than may be disabled. Nothing
// was changed.
type StopError struct {
	Absent, Of int
	Above      float64
}

func (e *StopError) Error() string {
	return fmt.Sprintf("%d of %d active users are not in the file: that is more than %g %%, and nothing was changed", e.Absent, e.Of, e.Above)
}

// Run imports the file. An error ends it; what was done until then stays, and another
// run does what is left. That rows are rejected is no error.
func (i *Importer) Run(ctx context.Context) (Result, error) {
	i.entries, i.seed, i.result = map[string]*entry{}, maphash.MakeSeed(), Result{DryRun: i.DryRun}
	var err error
	if i.maxOps, i.maxSize, err = i.Client.limits(ctx); err != nil {
		return i.result, err
	}
	if err := i.check(ctx); err != nil {
		return i.result, err
	}
	if err := i.meet(ctx); err != nil {
		return i.result, err
	}
	absent, err := i.absent()
	if err != nil {
		return i.result, err
	}
	// Who manages somebody comes first, so that nearly everybody can be created
	// with a manager.
	for _, pass := range []pass{{managers: true}, {}, {link: true}} {
		if i.Mapping.manager == nil && (pass.managers || pass.link) {
			continue
		}
		if err := i.pass(ctx, pass); err != nil {
			return i.result, err
		}
	}
	return i.result, i.disable(ctx, absent)
}

func (i *Importer) reject(line int, column, reason string) error {
	i.result.Rejected++
	return i.Reject(Reject{line, column, reason})
}

// rows calls do for each row from the beginning of the file.
func (i *Importer) rows(ctx context.Context, do func(row) error) error {
	if _, err := i.File.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in, err := open(i.File, i.Mapping, i.JSONLines)
	if err != nil {
		return err
	}
	for {
		r, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = do(r)
		}
		if err != nil {
			return err
		}
	}
}

// check reads the file once, for keys and for what is wrong with rows by themselves.
func (i *Importer) check(ctx context.Context) error {
	m := i.Mapping
	type claim struct {
		key  string
		line int
	}
	var twice []claim
	type unique struct {
		field int
		key   string
	}
	taken := map[uint64]int{} // the lines of unique values, by their hashes
	err := i.rows(ctx, func(r row) error {
		i.result.Rows++
		if r.err != nil {
			i.unknown = true
			return i.reject(r.line, "", r.err.Error())
		}
		// A person whose row is bad is not absent all the same.
		key, kerr := m.keyOf(r)
		if kerr != nil || key == "" {
			i.unknown = true
			if kerr == nil {
				kerr = errors.New("the value is missing")
			}
			return i.reject(r.line, m.key.column, kerr.Error())
		}
		e := i.at(key)
		if e.line > 0 {
			if e.flags&repeated == 0 {
				twice = append(twice, claim{key, int(e.line)})
			}
			e.flags |= repeated
			return i.reject(r.line, m.key.column, fmt.Sprintf("line %d has the same key", e.line))
		}
		e.line = int32(r.line)
		values, column, err := m.values(r)
		if err != nil {
			e.flags |= rejected
			return i.reject(r.line, column, err.Error())
		}
		for n, f := range m.fields {
			s, _ := values[n].(string)
			if f == m.key || f.attr.Uniqueness == schemas.UniquenessNone || s == "" {
				continue
			}
			h := maphash.Comparable(i.seed, unique{n, f.attr.UniqueKey(s)})
			if line, ok := taken[h]; ok {
				e.flags |= rejected
				return i.reject(r.line, f.column, fmt.Sprintf("line %d has the same value, which has to be unique", line))
			}
			taken[h] = r.line
		}
		if k := i.managerKey(values); k != "" {
			i.at(k).flags |= manages
		}
		return nil
	})
	for _, c := range twice {
		if e := i.entries[c.key]; err == nil && e.flags&rejected == 0 {
			err = i.reject(c.line, m.key.column, "another line has the same key")
		}
	}
	return err
}

// at returns the entry of a key.
func (i *Importer) at(key string) *entry {
	e := i.entries[key]
	if e == nil {
		e = &entry{}
		i.entries[strings.Clone(key)] = e
	}
	return e
}

func (i *Importer) managerKey(values []any) string {
	m := i.Mapping
	if m.manager == nil {
		return ""
	}
	s, _ := values[m.manager.at].(string)
	return m.key.attr.UniqueKey(s)
}

// meet learns which users the server has.
func (i *Importer) meet(ctx context.Context) error {
	return i.Client.walk(ctx, strings.Join(i.Mapping.attributes("active"), ","), "", func(raw jsontext.Value) error {
		u, err := decode(raw)
		if err != nil {
			return err
		}
		key := ""
		if s, ok := i.Mapping.key.of(u).(string); ok {
			key = i.Mapping.key.attr.UniqueKey(s)
		}
		if key == "" {
			return nil // this one is not from the file
		}
		e := i.at(key)
		if e.id != "" {
			e.flags |= ambiguous
			return nil
		}
		e.id, _ = u["id"].(string)
		if on, ok := u["active"].(bool); on || !ok {
			e.flags |= active
		}
		e.digest = i.digest(i.current(u))
		return nil
	})
}

func decode(raw jsontext.Value) (map[string]any, error) {
	var u map[string]any
	err := json.Unmarshal(raw, &u)
	return u, err
}

// of returns the value that a user has.
func (f *field) of(u map[string]any) any {
	at := u
	if top := f.attr.Top(); top.Extension {
		at, _ = u[top.Name].(map[string]any)
	}
	p := f.attr.Parent
	switch {
	case p == nil || p.Extension:
		return at[f.attr.Name]
	case f.element == "":
		in, _ := at[p.Name].(map[string]any)
		return in[f.attr.Name]
	}
	e := f.elementOf(at)
	return e[f.attr.Name]
}

func (f *field) elementOf(u map[string]any) map[string]any {
	list, _ := u[f.attr.Parent.Name].([]any)
	for _, v := range list {
		e, _ := v.(map[string]any)
		if t, _ := e["type"].(string); e != nil && schemas.Fold(t) == schemas.Fold(f.element) {
			return e
		}
	}
	return nil
}

func (i *Importer) current(u map[string]any) []any {
	out := make([]any, len(i.Mapping.fields))
	for n, f := range i.Mapping.fields {
		out[n] = f.of(u)
	}
	return out
}

func (i *Importer) digest(values []any) uint64 {
	var h maphash.Hash
	h.SetSeed(i.seed)
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			h.WriteByte(0)
		case string:
			h.WriteByte(1)
			h.WriteString(v)
		default:
			fmt.Fprint(&h, "\x02", v)
		}
		h.WriteByte(0xff) // which UTF-8 does not have
	}
	return h.Sum64()
}

// absent returns the keys of those to be disabled.
func (i *Importer) absent() ([]string, error) {
	if i.Mapping.Absent != Disable {
		return nil, nil
	}
	var out []string
	all := 0
	for key, e := range i.entries {
		if e.id == "" || e.flags&active == 0 {
			continue
		}
		all++
		if e.line == 0 {
			out = append(out, key)
		}
	}
	if i.unknown {
		// One of them may be who the illegible row is about.
		i.result.NotDisabled = len(out)
		return nil, nil
	}
	if above := i.Mapping.StopAbove; float64(len(out))*100 > above*float64(all) && !i.DisableAnyway {
		return nil, &StopError{len(out), all, above}
	}
	slices.Sort(out)
	return out, nil
}

// pass is a reading of the file in which rows become changes.
type pass struct {
	managers bool // those who manage somebody, and not the others
	link     bool // those whose manager was not there before
}

// batch is a request that grows.
type batch struct {
	ops        []*operation
	size, most int
}

// takes returns what is known of the user of a row, if it is one for this pass, or nil.
func (i *Importer) takes(p pass, r row) *entry {
	k, err := i.Mapping.keyOf(r)
	if err != nil {
		return nil // it was rejected when it was checked
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	e := i.entries[k]
	switch {
	case e == nil, int(e.line) != r.line, e.flags&(repeated|rejected) != 0:
		return nil
	case p.link != (e.flags&late != 0):
		return nil
	case !p.link && i.Mapping.manager != nil && p.managers != (e.flags&manages != 0):
		return nil
	}
	return e
}

func (i *Importer) pass(ctx context.Context, p pass) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	creates, changes := &batch{most: min(i.maxOps, batchLength)}, &batch{most: min(i.maxOps, changesLength)}
	flush := func(b *batch) {
		ops := b.ops
		b.ops, b.size = nil, 0
		if len(ops) > 0 {
			g.Go(func() error { return i.send(ctx, ops) })
		}
	}
	var updates []func() (*operation, error)
	add := func(op *operation) {
		b := changes
		if op.method == http.MethodPost {
			b = creates
		}
		n := op.size()
		if len(b.ops) >= b.most || b.size+n > i.maxSize-1024 {
			flush(b)
		}
		b.ops, b.size = append(b.ops, op), b.size+n
	}
	// Users that change are read first, several at a time.
	drain := func() error {
		ops := make([]*operation, len(updates))
		var g errgroup.Group
		g.SetLimit(atOnce)
		for n, fn := range updates {
			g.Go(func() (err error) { ops[n], err = fn(); return err })
		}
		err := g.Wait()
		updates = nil
		for _, op := range ops {
			if err == nil && op != nil {
				err = i.done(op, add)
			}
		}
		return err
	}
	err := i.rows(ctx, func(r row) error {
		if r.err != nil {
			return nil //nolint:nilerr // it was rejected when it was checked
		}
		e := i.takes(p, r)
		if e == nil {
			return nil
		}
		values, _, err := i.Mapping.values(r)
		if err != nil {
			return nil //nolint:nilerr // so was this
		}
		op, update, err := i.plan(ctx, p, e, r, values)
		if err != nil || op == nil && update == nil {
			return err
		}
		if update != nil {
			if updates = append(updates, update); len(updates) < 64 {
				return nil
			}
			return drain()
		}
		return i.done(op, add)
	})
	if err == nil {
		err = drain()
	}
	flush(creates)
	flush(changes)
	sent := g.Wait()
	if sent != nil && errors.Is(err, context.Canceled) {
		return sent // which ended what was under way beside it
	}
	return errors.Join(err, sent)
}

// done counts and shows what is planned, or has it sent.
func (i *Importer) done(op *operation, send func(*operation)) error {
	if !i.DryRun {
		send(op)
		return nil
	}
	i.mu.Lock()
	i.count(op)
	i.mu.Unlock()
	if i.Preview == nil {
		return nil
	}
	return i.Preview(*op.change)
}

// plan decides about a row: an operation, or a function that makes one, or
// neither if there is nothing to do.
func (i *Importer) plan(ctx context.Context, p pass, e *entry, r row, values []any) (*operation, func() (*operation, error), error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key, _ := values[i.Mapping.key.at].(string)
	if e.flags&ambiguous != 0 {
		e.flags |= rejected
		return nil, nil, i.reject(r.line, i.Mapping.key.column, "several users have this key")
	}
	change := &Change{Line: r.line, Key: key, ID: e.id}
	boss, later, why := i.findManager(p, e, values)
	switch {
	case why != "":
		if e.flags&created != 0 {
			why += "; the user was created without"
		}
		e.flags |= rejected
		return nil, nil, i.reject(r.line, i.Mapping.manager.column, why)
	case later:
		return nil, nil, nil
	}
	if e.id == "" {
		change.Action = "create"
		for n, f := range i.Mapping.fields {
			if i.Preview != nil && (values[n] != nil || f == i.Mapping.manager && boss != "") {
				a := AttributeChange{Path: f.path, New: values[n], field: f}
				if f == i.Mapping.manager {
					a.ManagerKey = boss
				}
				change.Attributes = append(change.Attributes, a)
			}
		}
		data, err := i.Mapping.document(make([]byte, 0, 512), values)
		return &operation{
			method: http.MethodPost, path: "/Users", bulkID: "line" + strconv.Itoa(r.line), data: data, change: change, entry: e, late: e.flags&late != 0,
		}, nil, err
	}
	if boss == "" && e.flags&created == 0 && i.digest(values) == e.digest {
		i.result.Unchanged++
		i.progress()
		return nil, nil, nil
	}
	change.Action = "update"
	if e.flags&created != 0 {
		// Its manager is all that was left out.
		path := i.Mapping.manager.path
		data, err := json.Marshal(patchOf([]any{patchOp{"replace", path, values[i.Mapping.manager.at]}}))
		return &operation{method: http.MethodPatch, path: "/Users/" + e.id, data: data, change: change, entry: e}, nil, err
	}
	return nil, func() (*operation, error) {
		var u map[string]any
		if err := i.Client.do(ctx, http.MethodGet, "/Users/"+url.PathEscape(e.id), nil, &u); err != nil {
			return nil, err
		}
		var ops []any
		ops, change.Attributes = i.compare(u, values, boss)
		if len(ops) == 0 && boss == "" {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.result.Unchanged++
			i.progress()
			return nil, nil
		}
		data, err := json.Marshal(patchOf(ops), json.Deterministic(true))
		return &operation{method: http.MethodPatch, path: "/Users/" + e.id, data: data, change: change, entry: e}, err
	}, nil
}

// findManager puts the id of the manager into the values of a row, or leaves the manager out
// who is not there yet: boss is the key of one whom a dry run would create, later says that the
// row has its turn in another pass, and why says why there is none to be had. i.mu is held.
func (i *Importer) findManager(p pass, e *entry, values []any) (boss string, later bool, why string) {
	k := i.managerKey(values)
	if k == "" {
		return "", false, ""
	}
	at, n := i.entries[k], i.Mapping.manager.at
	switch {
	case at.flags&ambiguous != 0:
		return "", false, "several users have the key of the manager"
	case at.id != "":
		values[n] = at.id
		return "", false, ""
	case at.line == 0:
		return "", false, "neither the file nor the server has the manager"
	case at.flags&(rejected|repeated) != 0 && at.flags&created == 0: // in a dry run nobody who is created gets an id
		return "", false, "the row of the manager was rejected"
	case p.link && !i.DryRun:
		return "", false, "the manager was not created"
	case p.link && e.id == "":
		return "", true, "" // it was shown when it was to be created
	}
	if e.flags |= late; e.id != "" && !p.link {
		return "", true, "" // as a whole, when the manager is there
	}
	if i.DryRun {
		boss, _ = values[n].(string)
		if e.id == "" {
			e.flags |= created
		}
	}
	values[n] = nil
	return boss, false, ""
}

type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func patchOf(ops []any) any {
	return map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:PatchOp"}, "Operations": ops}
}

// compare says what makes user u what the values of a row say.
func (i *Importer) compare(u map[string]any, values []any, boss string) (ops []any, changes []AttributeChange) {
	type place struct{ attribute, element string }
	fresh := map[place]map[string]any{} // elements that u does not have yet
	gone := map[place]bool{}
	for n, f := range i.Mapping.fields {
		old, now := f.of(u), values[n]
		a := AttributeChange{Path: f.path, Old: old, New: now, field: f}
		if f == i.Mapping.manager && boss != "" {
			a.ManagerKey = boss
			changes = append(changes, a)
			continue
		}
		if old == now {
			continue
		}
		changes = append(changes, a)
		path := f.path
		if f.element != "" {
			at := place{f.attr.Parent.Path, schemas.Fold(f.element)}
			if f.about != nil && values[f.about.at] == nil {
				if !gone[at] {
					gone[at] = true
					ops = append(ops, patchOp{"remove", strings.TrimSuffix(path, "."+f.attr.Name), nil})
				}
				continue
			}
			if f.elementOf(u) == nil {
				if fresh[at] == nil {
					fresh[at] = map[string]any{"type": f.element}
					ops = append(ops, patchOp{"add", at.attribute, []any{fresh[at]}})
				}
				fresh[at][f.attr.Name] = now
				continue
			}
		}
		switch {
		case now != nil:
			ops = append(ops, patchOp{"replace", path, now})
		case f.isManager():
			ops = append(ops, patchOp{"remove", f.attr.Parent.Path, nil})
		default:
			ops = append(ops, patchOp{"remove", path, nil})
		}
	}
	return ops, changes
}

// send makes changes and notes what came of them.
func (i *Importer) send(ctx context.Context, ops []*operation) error {
	out, err := i.Client.bulk(ctx, ops)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, op := range ops {
		o := out[n]
		if len(o.Status) == 3 && o.Status[0] == '2' {
			if op.method == http.MethodPost {
				op.entry.id = strings.Clone(o.Location[strings.LastIndexByte(o.Location, '/')+1:])
				if op.entry.flags |= created; op.late {
					op.entry.flags |= late
				}
			}
			i.count(op)
			continue
		}
		reason := o.Response.reason(o.Status)
		if op.entry.flags&created != 0 {
			reason += "; the user was created without"
		}
		op.entry.flags |= rejected
		if err := i.reject(op.change.Line, i.columnOf(o.Response.Detail), reason); err != nil {
			return err
		}
	}
	return nil
}

// columnOf finds the column that an error of the server is about.
func (i *Importer) columnOf(detail string) string {
	for _, f := range i.Mapping.fields {
		if strings.HasPrefix(detail, f.attr.Path+" ") || strings.HasPrefix(detail, f.attr.Path+":") {
			return f.column
		}
	}
	return ""
}

func (i *Importer) count(op *operation) {
	switch op.change.Action {
	case "create":
		i.result.Created++
	case "update":
		if op.entry.flags&created != 0 {
			return // it was counted when it was created
		}
		i.result.Updated++
	case "disable":
		i.result.Disabled++
		return
	}
	i.progress()
}

func (i *Importer) progress() {
	if r := i.result; i.Progress != nil {
		i.Progress(r.Created+r.Updated+r.Unchanged+r.Rejected, r.Rows)
	}
}

// disable disables those who are absent.
func (i *Importer) disable(ctx context.Context, keys []string) error {
	data, err := json.Marshal(patchOf([]any{patchOp{"replace", "active", false}}))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for chunk := range slices.Chunk(keys, min(i.maxOps, changesLength)) {
		var ops []*operation
		for _, k := range chunk {
			e := i.entries[k]
			change := &Change{Action: "disable", Key: k, ID: e.id}
			op := &operation{method: http.MethodPatch, path: "/Users/" + e.id, data: data, change: change, entry: e}
			if err := i.done(op, func(op *operation) { ops = append(ops, op) }); err != nil {
				return errors.Join(err, g.Wait())
			}
		}
		if len(ops) > 0 {
			g.Go(func() error { return i.send(ctx, ops) })
		}
	}
	return g.Wait()
}
