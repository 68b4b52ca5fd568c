package settings

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"github.com/caarlos0/env/v10"
)

// field is one struct field that has an env tag.
type field struct {
	key    string // the variable's full name
	prefix string // what envPrefix tags above it contribute to key
	decl   reflect.StructField
	value  reflect.Value
}

// walk lists, in the order of declaration, the fields of a config that have an
// env tag, and pointers to the structs that hold them, inner ones first. It
// panics unless config is a pointer to a struct.
func walk(config any) (fields []field, structs []any) {
	v := reflect.ValueOf(config)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("settings: %T is not a pointer to a struct", config))
	}
	return walkStruct(v.Elem(), "")
}

func walkStruct(v reflect.Value, prefix string) (fields []field, structs []any) {
	for i := range v.NumField() {
		decl, value := v.Type().Field(i), v.Field(i)
		if !value.CanSet() {
			continue
		}
		if key, _, _ := strings.Cut(decl.Tag.Get("env"), ","); key != "" {
			fields = append(fields, field{prefix + key, prefix, decl, value})
			continue
		}
		if value.Kind() == reflect.Pointer {
			value = value.Elem()
		}
		if value.Kind() == reflect.Struct {
			f, s := walkStruct(value, prefix+decl.Tag.Get("envPrefix"))
			fields, structs = append(fields, f...), append(structs, s...)
		}
	}
	return fields, append(structs, v.Addr().Interface())
}

// alone is a new struct with this one field. The env library reports a value
// that it cannot read under the name of the Go field, which two structs may
// share; reading each field by itself says which variable it was.
func (f field) alone() reflect.Value {
	decl := f.decl
	decl.Anonymous = false
	s := reflect.New(reflect.StructOf([]reflect.StructField{decl}))
	s.Elem().Field(0).Set(f.value)
	return s
}

func (f field) read(vars map[string]string) error {
	s := f.alone()
	if err := env.ParseWithOptions(s.Interface(), env.Options{Environment: vars, Prefix: f.prefix}); err != nil {
		return err
	}
	f.value.Set(s.Elem().Field(0))
	return nil
}

// check returns what is wrong with a value whatever it is for, and "" if nothing is.
func (f field) check() string {
	v := f.value
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		if math.IsNaN(v.Float()) || math.IsInf(v.Float(), 0) {
			return "is not a finite number"
		}
	case reflect.String:
		if strings.HasSuffix(f.key, "_URL") {
			return checkList(v.String())
		}
		return checkText(v.String())
	case reflect.Slice:
		for i := range v.Len() {
			if item := v.Index(i); item.Kind() == reflect.String && checkList(item.String()) != "" {
				return checkList(item.String())
			}
		}
	}
	return ""
}

const invisible = "has a line break or another control character in it"

// checkText does not repeat the text, which may be a secret.
func checkText(text string) string {
	trimmed := strings.TrimRight(text, "\r\n")
	switch {
	case strings.ContainsFunc(trimmed, unicode.IsControl):
		return invisible
	case trimmed != text:
		return "ends with a line break, as a file does: leave that out (KEY=$(cat file) does)"
	}
	return ""
}

// checkList is checkText for addresses: a list may have its items on lines of their
// own, and whoever connects trims them.
func checkList(text string) string {
	for item := range strings.SplitSeq(text, ",") {
		if strings.ContainsFunc(strings.TrimSpace(item), unicode.IsControl) {
			return invisible
		}
	}
	return ""
}

func (f field) setting() Setting {
	s := Setting{Key: f.key, Value: f.text(f.value)}
	// An unknown tag option is the only error; reading has reported it.
	params, err := env.GetFieldParams(f.alone().Interface())
	if err == nil && len(params) == 1 {
		s.Default, s.Required = params[0].DefaultValue, params[0].Required || params[0].NotEmpty
	}
	return s
}

// text renders a value as it would be written in the environment, masked.
func (f field) text(v reflect.Value) string {
	if s, ok := reflect.TypeAssert[fmt.Stringer](v.Addr()); ok {
		return mask(s.String())
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return f.text(v.Elem())
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = f.text(v.Index(i))
		}
		return strings.Join(parts, f.separator())
	default:
		return mask(fmt.Sprint(v.Interface()))
	}
}

func (f field) separator() string {
	if s := f.decl.Tag.Get("envSeparator"); s != "" {
		return s
	}
	return ","
}

// reason is what is wrong with a value, without the Go names that the env
// library puts around it.
func reason(err error) string {
	if all, ok := errors.AsType[env.AggregateError](err); ok && len(all.Errors) == 1 {
		err = all.Errors[0]
	}
	if parse, ok := errors.AsType[env.ParseError](err); ok {
		err = parse.Err
	}
	switch err := err.(type) { //nolint:errorlint // none of these is ever wrapped
	case env.EnvVarIsNotSetError:
		return "is required and not set"
	case env.EmptyEnvVarError:
		return "is required and empty"
	case env.ParseValueError:
		if text, ok := strings.CutPrefix(err.Err.Error(), "time: "); ok { // missing unit in duration "5"
			return text + ": write it as 500ms, 30s or 1h30m"
		}
		return err.Err.Error()
	case *strconv.NumError:
		return notNumber(err)
	default:
		return err.Error()
	}
}

func notNumber(err *strconv.NumError) string {
	kind := "a whole number"
	switch err.Func {
	case "ParseFloat":
		kind = "a number"
	case "ParseBool":
		kind = "true or false"
	}
	if errors.Is(err.Err, strconv.ErrRange) {
		return fmt.Sprintf("%q is out of range", err.Num)
	}
	return fmt.Sprintf("%q is not %s", err.Num, kind)
}
