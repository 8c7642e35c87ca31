package storage

import "context"

// LastEntry returns the number of the last of the entries at the beginning of a trail for
// which is holds, 0 if it holds for none; is holds for no entry behind one for which it
// does not. It asks for few entries, however many there are.
func LastEntry(ctx context.Context, a Audit, tenant TenantID, is func(*AuditEntry) bool) (int64, error) {
	var low int64 // it holds up to here
	probe := func(after int64) (bool, error) {
		list, err := a.AuditEntries(ctx, tenant, after, 1)
		if err != nil || len(list) == 0 || !is(&list[0]) {
			return false, err
		}
		low = list[0].Seq
		return true, nil
	}
	var bound int64 // and at no number above this
	for {
		ok, err := probe(bound)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		bound = 2 * low
	}
	for low < bound {
		middle := low + (bound-low)/2
		ok, err := probe(middle)
		if err != nil {
			return 0, err
		}
		if !ok {
			bound = middle
		}
	}
	return low, nil
}

// Of a trail few entries are read first, and more at a time later on.
const (
	firstEntries = 256
	moreEntries  = 1024
)

// EachEntry visits the entries of a trail behind a number, oldest first, until visit returns
// false or bound of them were visited, so that a look for a few of them has an end. to is
// the number of the last one for which visit returned true, and more says that there may
// be others behind it.
//
// It reads what is no event too: [Outbox] has no bound on what it passes over.
func EachEntry(ctx context.Context, a Audit, tenant TenantID, after int64, bound int, visit func(*AuditEntry) bool) (to int64, more bool, err error) {
	size := firstEntries
	for looked := 0; looked < bound; size = moreEntries {
		want := min(size, bound-looked)
		list, err := a.AuditEntries(ctx, tenant, after, want)
		if err != nil {
			return 0, false, err
		}
		for i := range list {
			if !visit(&list[i]) {
				return after, true, nil
			}
			after = list[i].Seq
		}
		if len(list) < want {
			return after, false, nil
		}
		looked += want
	}
	return after, true, nil
}
