package mongotest

import "slices"

// Failure is something that goes wrong with commands of a name.
type Failure struct {
	Command string
	// Collection, if set, is the one the command has to be for.
	Collection string
	Times      int // how often; 0 is once
	// After lets the command take effect: only its answer is lost.
	After bool
	// Code is the error the client gets instead of an answer, with Labels. When
	// it is 0 the connection ends without one.
	Code   int32
	Labels []string
}

// Fail arranges for a failure. Several may wait, for one command too.
func (d *Double) Fail(f Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Times = max(f.Times, 1)
	d.failures = append(d.failures, &f)
}

// Mend gives up the failures that still wait.
func (d *Double) Mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures = nil
}

// failure returns what is to go wrong with a command, or nil.
func (d *Double) failure(command, collection string) *Failure {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.failures, func(f *Failure) bool {
		return f.Command == command && (f.Collection == "" || f.Collection == collection)
	})
	if i < 0 {
		return nil
	}
	f := d.failures[i]
	if f.Times--; f.Times == 0 {
		d.failures = slices.Delete(d.failures, i, i+1)
	}
	return f
}
