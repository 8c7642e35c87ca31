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
