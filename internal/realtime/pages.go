package realtime

import (
	"container/list"
	"sync"
	"time"
)

// pageSize is how many events one read of the log fetches for replays. Page k of a log holds the events behind seq
// k*pageSize, so that all who missed the same stretch share its reads wherever they stand in it.
const pageSize = 500

// page is a stretch of a log without gaps: the frames behind seq start. It is never changed.
type page struct {
	start  int64
	frames []*frame
	bytes  int
}

// after returns the frames of the page behind seq; none if the page does not hold the very next one.
func (p *page) after(seq int64) []*frame {
	if p == nil || seq < p.start || seq-p.start >= int64(len(p.frames)) {
		return nil
	}
	return p.frames[seq-p.start:]
}

type pageKey struct {
	organizationID int64
	epoch          string
	number         int64
}

// pageCache keeps full pages, which never change, for the other sockets of a herd. The least recently used go first
// when there are too many bytes.
type pageCache struct {
	limit int // bytes

	mu    sync.Mutex // guards what follows
	pages map[pageKey]*list.Element
	order *list.List // of *cachedPage, most recently used first
	bytes int
}

type cachedPage struct {
	key  pageKey
	page *page
	used time.Time
}

func newPageCache(limit int) *pageCache {
	return &pageCache{limit: limit, pages: map[pageKey]*list.Element{}, order: list.New()}
}

func (c *pageCache) get(key pageKey) *page {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.pages[key]
	if element == nil {
		return nil
	}
	c.order.MoveToFront(element)
	cached(element).used = time.Now()
	return cached(element).page
}

func (c *pageCache) put(key pageKey, p *page) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages[key] != nil || p.bytes > c.limit {
		return
	}
	c.pages[key] = c.order.PushFront(&cachedPage{key, p, time.Now()})
	c.bytes += p.bytes
	for c.bytes > c.limit {
		c.remove(c.order.Back())
	}
}

// expire drops the pages that nobody has used since then.
func (c *pageCache) expire(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for element := c.order.Back(); element != nil && cached(element).used.Before(since); element = c.order.Back() {
		c.remove(element)
	}
}

// forget drops all pages of an organization.
func (c *pageCache) forget(organizationID int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, element := range c.pages {
		if key.organizationID == organizationID {
			c.remove(element)
		}
	}
}

func (c *pageCache) remove(element *list.Element) {
	entry := cached(element)
	c.order.Remove(element)
	delete(c.pages, entry.key)
	c.bytes -= entry.page.bytes
}

func cached(element *list.Element) *cachedPage {
	return element.Value.(*cachedPage) //nolint:forcetypeassert // the list holds nothing else
}
