package storage

import (
	"context"
	"time"
)

// Deleted reads soft-deleted resources, which everybody else passes over. They are
// there until they are restored or purged.
type Deleted interface {
	// GetDeleted returns a deleted resource, or ErrNotFound.
	GetDeleted(ctx context.Context, tenant TenantID, typ, id string) (*WholeResource, error)
	// ListDeleted returns up to limit deleted resources of a type that come after a
	// place in the list of all, which begins with those deleted last; of those deleted
	// at the same time it begins with the highest id. Who reads on from the Place of
	// the last one misses none and sees none twice, whatever is deleted, restored or
	// purged meanwhile.
	ListDeleted(ctx context.Context, tenant TenantID, typ string, after DeletedPlace, limit int) ([]*WholeResource, error)
	// CountDeleted returns how many resources of a type are deleted.
	CountDeleted(ctx context.Context, tenant TenantID, typ string) (int, error)
	// FormerGroups returns the groups that a deleted user or group would be a direct
	// member of if it were restored, in the order of ids; none for what is not deleted.
	FormerGroups(ctx context.Context, tenant TenantID, id string) ([]Membership, error)
}

// DeletedPlace is a place in the list of deleted resources. The zero place is before
// all of them; one with a time alone is before those that were deleted earlier.
type DeletedPlace struct {
	At time.Time
	ID string
}

// Place returns where a deleted resource stands in the list.
func (w *WholeResource) Place() DeletedPlace { return DeletedPlace{w.Deleted, w.ID} }

// DeletedWriter is the part of Tx that is about deleted resources.
type DeletedWriter interface {
	// GetDeleted is Deleted.GetDeleted inside the transaction. It sets Epoch.
	GetDeleted(typ, id string) (*WholeResource, error)
	// FormerGroups is Deleted.FormerGroups inside the transaction, with all of the
	// groups but Doc. What it returned still holds when the write becomes durable, or
	// else the write fails or runs again.
	FormerGroups(prev *WholeResource) ([]*Resource, error)
	// Restore brings a deleted resource back as next, which has the same id and type,
	// the next version, and an Index. It fails with ErrConflict unless prev is what is
	// stored, and with a *UniqueError when one of the unique keys of next is taken. With
	// memberships, it is a member again of the groups that FormerGroups returns: these
	// get the next version and next.LastModified, and their audit entries are the
	// caller's. Without, it is not and never will be. A restored group has the members
	// that it had, as far as they are there.
	Restore(prev *WholeResource, next *Resource, memberships bool) error
	// Purge removes a deleted resource for good, with its memberships on either side,
	// unless prev is no longer what is stored (ErrConflict). Of a group with very many
	// members only some go: then more is true, and the group is still there, for
	// further writes to go on with. The id is not given again.
	Purge(prev *WholeResource) (more bool, err error)
}

// PurgedAtOnce bounds how many memberships one Purge removes.
const PurgedAtOnce = 5_000
