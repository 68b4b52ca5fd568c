// Package queue is the contract between the tiers: what intake publishes and
// the uploader consumes. Both import it, neither extends it.
//
// # Streams
//
// Reports lie in JetStream streams CRASHES_0, CRASHES_1, ..., one a partition
// (NATS_PARTITIONS, by default one; a report's partition follows from its id).
// Partition p has the subjects crash.<p>.ready, one message a report, and
// crash.<p>.chunk, pieces of reports that do not fit one message. Streams keep
// everything until it is trimmed (limits retention), refuse new messages when
// full rather than forget old ones (discard new), and are written to disk
// before a publish is acknowledged, which is a setting of the server
// (sync_interval: always). Each has one durable pull consumer, named uploader,
// over the ready messages.
//
// What can never be stored is copied whole to CRASHES_DLQ, on crashdlq.<p>.chunk and,
// a subject for each, crashdlq.<p>.ready.<sequence>.<time>: the same headers and body, the manifest listing the chunks'
// copies (0 for one that was not there), and the Yagi-Dead-* headers, which say why
// and where it was (Death). Operators remove it, or put it back.
//
// Services never create or change a stream. crashctl stream apply does, and
// Check tells in words how a live one differs from what this package wants.
//
// # Messages
//
// A report that fits one message is one message on crash.<p>.ready:
//
//	Nats-Msg-Id:   <id>                    the server drops a second one for 2 minutes
//	Yagi-Format:   1                       version of what follows
//	Yagi-Manifest: {"id":...,"parts":...}  see Manifest
//
//	<raw_crash JSON><first dump><second dump>...
//
// The body is the parts back to back, in the manifest's order, each with its
// size and SHA-256.
//
// A larger report has its body cut into chunks of 1,000,000 bytes on
// crash.<p>.chunk, which have no Nats-Msg-Id, and then a ready message without a
// body on the same stream, whose manifest lists the stream sequences with which
// the chunks were acknowledged. That message makes the report: chunks that none
// lists, of a client that went away or of an ack that was lost, are seen by
// nobody and trimmed like the rest. From a report's first chunk to its ready
// message ReadyDeadline may pass at the most.
//
// # Versions
//
// A reader that meets a version it does not know hands the message back
// (ErrVersion); it is never damage (ErrDamaged). Uploaders are upgraded first.
// Fields may be added to a manifest within a version as long as a reader that
// ignores them does no harm. testdata holds one message of every version ever
// published; those files are never made anew.
package queue
