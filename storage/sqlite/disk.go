package sqlite

import "fmt"

// localDisk refuses a folder on a network file system. There the locks that keep
// two processes apart do not hold, and neither does the memory that SQLite's log
// shares between connections, so that the file would be damaged sooner or later.
// kind names the file system of a folder if it is one of these.
func localDisk(folder string, kind func(string) (string, error)) error {
	name, err := kind(folder)
	if err != nil {
		return fmt.Errorf("find out about the file system of %s: %w", folder, err)
	}
	if name != "" {
		return fmt.Errorf("store: %s is on a network file system (%s), where SQLite cannot keep data safe: choose a folder on a local disk", folder, name)
	}
	return nil
}
