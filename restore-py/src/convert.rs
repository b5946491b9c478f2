//! JSON values as Python's own, and back.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// `value` as `None`, `bool`, `int`, `float`, `str`, `list` or `dict`.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => number.into_pyobject(py)?.into_any(),
            (_, Some(number), _) => number.into_pyobject(py)?.into_any(),
            (.., number) => number.into_pyobject(py)?.into_any(),
        },
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(table) => {
            let dict = PyDict::new(py);
            for (key, item) in table {
                dict.set_item(key, to_python(py, item)?)?;
            }
            dict.into_any()
        }
    })
}

/// Anything that serialises, as [`to_python`] gives it.
pub(crate) fn dump<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let value = serde_json::to_value(value).map_err(|e| PyValueError::new_err(e.to_string()))?;
    to_python(py, &value)
}

/// How deep a value may be nested: one that holds itself is an error and no overflow.
const DEPTH: u8 = 64;

/// The JSON value that a Python value is; paths are texts, tuples are lists.
pub(crate) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    read(value, DEPTH)
}

fn read(value: &Bound<'_, PyAny>, depth: u8) -> PyResult<Value> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(PyValueError::new_err("a value is nested too deeply"));
    };
    let items = |items: &mut dyn Iterator<Item = PyResult<Bound<'_, PyAny>>>| {
        items
            .map(|item| read(&item?, depth))
            .collect::<PyResult<Vec<_>>>()
            .map(Value::Array)
    };
    if value.is_none() {
        return Ok(Value::Null);
    }
    // Before the integer that it also is.
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return match value.extract::<i64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => match value.extract::<u64>() {
                Ok(number) => Ok(number.into()),
                Err(_) => Err(PyValueError::new_err(format!(
                    "a number is too large: {}",
                    value.repr()?
                ))),
            },
        };
    }
    if value.is_instance_of::<PyFloat>() {
        return Number::from_f64(value.extract()?)
            .map(Value::Number)
            .ok_or_else(|| PyValueError::new_err("a number is not finite"));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(text.extract()?));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return items(&mut list.try_iter()?);
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return items(&mut tuple.try_iter()?);
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut table = Map::new();
        for (key, item) in dict {
            table.insert(key.extract()?, read(&item, depth)?);
        }
        return Ok(Value::Object(table));
    }
    if value.hasattr("__fspath__")? {
        return read(&value.call_method0("__fspath__")?, depth);
    }
    Err(PyTypeError::new_err(format!(
        "{} is neither text, number, bool, None, list, tuple, dict nor path",
        value.get_type().name()?
    )))
}
