// Package media keeps the bytes of media objects (blobs), on a file system or in S3, and says what they are and how they
// may safely be shown. What a medium belongs to, and who may see it, is not its business: that is the store's rows.
//
// Keys are made here, by NewKey, and hold nothing that a user chose. A blob is written whole or not at all, and never
// changed afterwards.
package media
