package auth

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// largeHash is from how many bytes on a hash is worth giving memory back to the system
// before it, which costs some 10 ms for 64 MiB, and getting it again.
const largeHash = 32 << 20

// hashMemory bounds what hashes take of memory, that of hashes which are over and of
// which the runtime has not noticed yet included: each leaves up to 64 MiB behind,
// which is more than all else that is alive.
type hashMemory struct {
	mu          sync.Mutex
	used, spent int // bytes, by hashes under way and by those that are over
	most        int
}

// take waits until there is room for n bytes, and takes it until give.
func (m *hashMemory) take(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used+m.spent+n > m.most {
		if n < largeHash {
			runtime.GC()
		} else {
			// Small objects would settle where there was a large one, and the next one
			// would not find room there.
			debug.FreeOSMemory()
		}
		m.spent = 0
	}
	m.used += n
}

func (m *hashMemory) give(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	m.spent += n
}
