package main

import (
	"io"
	"text/template"
)

// where is everything that runs.
type where struct {
	Intake, IntakeAdmin, UploaderAdmin string // host:port
	NATS, Monitor, S3, Web             string // URL
	Dir                                string
}

const bannerText = `
Yagi runs on this machine. Ctrl-C stops it; what it has is kept in {{.Dir}}

  crash clients post to    http://{{.Intake}}/submit
  health                   http://{{.Intake}}/__heartbeat__
  metrics                  http://{{.IntakeAdmin}}/metrics (intake), http://{{.UploaderAdmin}}/metrics (uploader)
  queue                    {{.NATS}}, monitoring {{.Monitor}}
  bucket                   {{.S3}}/` + bucket + `, region ` + region + `
  look into the bucket     {{.Web}} (log in as ` + accessKey + ` with ` + secretKey + `), or {{.Dir}}/s3/data/` + bucket + `/v1

Look after it:

  export NATS_URL={{.NATS}} NATS_MONITOR_URL={{.Monitor}} INTAKE_URL=http://{{.Intake}} UPLOADER_URL=http://{{.UploaderAdmin}}
  export S3_BUCKET=` + bucket + ` AWS_ENDPOINT_URL_S3={{.S3}} AWS_REGION=` + region + ` AWS_ACCESS_KEY_ID=` + accessKey + ` AWS_SECRET_ACCESS_KEY=` + secretKey + `
  go run ./deploy/cmd/crashctl status --watch

Post a crash:

  printf MDMP | curl -F ProductName=Test -F Version=1.0 -F 'upload_file_minidump=@-;filename=test.dmp;type=application/octet-stream' http://{{.Intake}}/submit

`

// banner says what runs where.
func banner(out io.Writer, w where) error {
	return template.Must(template.New("banner").Parse(bannerText)).Execute(out, w)
}
