//! What is held: collections of points, changed by writes and searched by looking at every point.

use std::collections::{BTreeMap, HashMap};

use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    CreateCollection, CreateFieldIndexCollection, Filter, PointId, PointStruct, PointsSelector,
    SetPayloadPoints, UpdateMode, UpsertPoints, Value, vector, vectors, vectors_config,
};
use tonic::Status;

use crate::filter;
use crate::log::Write;

/// Names a point. Numbers come before UUIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Id {
    Number(u64),
    Uuid(u128),
}

impl Id {
    pub(crate) fn read(id: Option<&PointId>) -> Option<Self> {
        match id?.point_id_options.as_ref()? {
            PointIdOptions::Num(number) => Some(Self::Number(*number)),
            PointIdOptions::Uuid(text) => {
                let digits: String = text.chars().filter(|letter| *letter != '-').collect();
                let whole = digits.len() == 32;
                let number = u128::from_str_radix(&digits, 16).ok();
                number.filter(|_| whole).map(Self::Uuid)
            }
        }
    }

    pub(crate) fn write(self) -> PointId {
        let options = match self {
            Self::Number(number) => PointIdOptions::Num(number),
            Self::Uuid(number) => {
                let digits = format!("{number:032x}");
                let parts = [
                    &digits[..8],
                    &digits[8..12],
                    &digits[12..16],
                    &digits[16..20],
                    &digits[20..],
                ];
                PointIdOptions::Uuid(parts.join("-"))
            }
        };
        PointId {
            point_id_options: Some(options),
        }
    }

    /// An order of no meaning.
    fn shuffled(self) -> u128 {
        let number = match self {
            Self::Number(number) => number.into(),
            Self::Uuid(number) => number,
        };
        number
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
            .rotate_left(64)
    }
}

/// A point.
#[derive(Debug, Clone, Default)]
pub(crate) struct Point {
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: HashMap<String, Value>,
}

/// Points of one kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collection {
    pub(crate) made: CreateCollection,
    pub(crate) indexes: BTreeMap<String, CreateFieldIndexCollection>,
    pub(crate) points: BTreeMap<Id, Point>,
}

/// Everything held.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    pub(crate) collections: BTreeMap<String, Collection>,
}

impl Engine {
    /// A collection by name.
    pub(crate) fn collection(&self, name: &str) -> Result<&Collection, Status> {
        let missing =
            || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        self.collections.get(name).ok_or_else(missing)
    }

    fn collection_mut(&mut self, name: &str) -> Result<&mut Collection, Status> {
        let missing =
            || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        self.collections.get_mut(name).ok_or_else(missing)
    }

    /// Whether a write can be done. It is logged only then.
    pub(crate) fn check(&self, write: &Write) -> Result<(), Status> {
        match write {
            Write::Create(create) => match self.collections.contains_key(&create.collection_name) {
                true => {
                    let problem =
                        format!("Collection `{}` already exists!", create.collection_name);
                    Err(Status::invalid_argument(problem))
                }
                false => size_of(create).map(drop),
            },
            Write::Drop(_) => Ok(()),
            Write::Index(index) => self.collection(&index.collection_name).map(drop),
            Write::Upsert(upsert) => {
                let collection = self.collection(&upsert.collection_name)?;
                collection.check(upsert.update_filter.as_ref())?;
                let size = size_of(&collection.made)?;
                upsert
                    .points
                    .iter()
                    .try_for_each(|point| read_point(point, size).map(drop))
            }
            Write::Delete(delete) => {
                self.check_selector(&delete.collection_name, delete.points.as_ref())
            }
            Write::Set(set) | Write::Overwrite(set) => {
                self.check_selector(&set.collection_name, set.points_selector.as_ref())
            }
        }
    }

    fn check_selector(
        &self,
        collection: &str,
        selector: Option<&PointsSelector>,
    ) -> Result<(), Status> {
        let collection = self.collection(collection)?;
        match selector.and_then(|selector| selector.points_selector_one_of.as_ref()) {
            Some(PointsSelectorOneOf::Points(_)) => Ok(()),
            Some(PointsSelectorOneOf::Filter(filter)) => collection.check(Some(filter)),
            None => Err(Status::invalid_argument("no points are selected")),
        }
    }

    /// Does a write that was checked.
    pub(crate) fn apply(&mut self, write: Write) -> Result<(), Status> {
        match write {
            Write::Create(made) => {
                let collection = Collection {
                    made: made.clone(),
                    ..Collection::default()
                };
                self.collections.insert(made.collection_name, collection);
            }
            Write::Drop(dropped) => {
                self.collections.remove(&dropped.collection_name);
            }
            Write::Index(index) => {
                let collection = self.collection_mut(&index.collection_name)?;
                collection.indexes.insert(index.field_name.clone(), index);
            }
            Write::Upsert(upsert) => self
                .collection_mut(&upsert.collection_name)?
                .upsert(upsert)?,
            Write::Delete(delete) => {
                let collection = self.collection_mut(&delete.collection_name)?;
                for id in collection.selected(delete.points.as_ref()) {
                    collection.points.remove(&id);
                }
            }
            Write::Set(set) => self.collection_mut(&set.collection_name)?.set(set, false),
            Write::Overwrite(set) => self.collection_mut(&set.collection_name)?.set(set, true),
        }
        Ok(())
    }
}

impl Collection {
    /// Refuses filters on fields without an index.
    pub(crate) fn check(&self, wanted: Option<&Filter>) -> Result<(), Status> {
        let has_index = |field: &str| self.indexes.contains_key(field);
        wanted.map_or(Ok(()), |wanted| filter::check(wanted, &has_index))
    }

    /// The points that a filter takes, by id.
    pub(crate) fn taken<'a>(
        &'a self,
        wanted: Option<&'a Filter>,
    ) -> impl Iterator<Item = (Id, &'a Point)> {
        let all = self.points.iter().map(|(id, point)| (*id, point));
        all.filter(move |(id, point)| wanted.is_none_or(|wanted| filter::takes(wanted, *id, point)))
    }

    /// The nearest by dot product, best first.
    pub(crate) fn nearest<'a>(
        &'a self,
        vector: &[f32],
        wanted: Option<&'a Filter>,
        limit: usize,
    ) -> Vec<(Id, f32, &'a Point)> {
        let scored = self
            .taken(wanted)
            .map(|(id, point)| (id, dot(vector, &point.vector), point));
        let mut scored: Vec<_> = scored.collect();
        scored.sort_by(|a, b| {
            b.1.total_cmp(&a.1)
                .then(a.0.shuffled().cmp(&b.0.shuffled()))
        });
        scored.truncate(limit);
        scored
    }

    fn upsert(&mut self, upsert: UpsertPoints) -> Result<(), Status> {
        let (mode, size) = (upsert.update_mode(), size_of(&self.made)?);
        for point in &upsert.points {
            let (id, fresh) = read_point(point, size)?;
            let write = match self.points.get(&id) {
                None => mode != UpdateMode::UpdateOnly,
                Some(_) if mode == UpdateMode::InsertOnly => false,
                Some(held) => upsert
                    .update_filter
                    .as_ref()
                    .is_none_or(|wanted| filter::takes(wanted, id, held)),
            };
            if write {
                self.points.insert(id, fresh);
            }
        }
        Ok(())
    }

    fn set(&mut self, set: SetPayloadPoints, replace: bool) {
        for id in self.selected(set.points_selector.as_ref()) {
            if let Some(point) = self.points.get_mut(&id) {
                if replace {
                    point.payload.clear();
                }
                point.payload.extend(set.payload.clone());
            }
        }
    }

    fn selected(&self, selector: Option<&PointsSelector>) -> Vec<Id> {
        match selector.and_then(|selector| selector.points_selector_one_of.as_ref()) {
            Some(PointsSelectorOneOf::Points(points)) => points
                .ids
                .iter()
                .filter_map(|id| Id::read(Some(id)))
                .collect(),
            Some(PointsSelectorOneOf::Filter(filter)) => {
                self.taken(Some(filter)).map(|(id, _)| id).collect()
            }
            None => Vec::new(),
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn size_of(made: &CreateCollection) -> Result<usize, Status> {
    match made
        .vectors_config
        .as_ref()
        .and_then(|config| config.config.as_ref())
    {
        Some(vectors_config::Config::Params(params)) => Ok(params.size as usize),
        _ => Err(Status::invalid_argument(
            "only one unnamed vector is served",
        )),
    }
}

fn read_point(point: &PointStruct, size: usize) -> Result<(Id, Point), Status> {
    let id = Id::read(point.id.as_ref());
    let id = id.ok_or_else(|| Status::invalid_argument("a point needs a number or a UUID"))?;
    let options = point
        .vectors
        .as_ref()
        .and_then(|vectors| vectors.vectors_options.as_ref());
    let vector = match options {
        Some(vectors::VectorsOptions::Vector(vector)) => vector.vector.as_ref(),
        _ => None,
    };
    let data = match vector {
        Some(vector::Vector::Dense(dense)) => dense.data.clone(),
        _ => return Err(Status::invalid_argument("a point needs one dense vector")),
    };
    if data.len() != size {
        let problem = format!(
            "Vector dimension error: expected dim: {size}, got {}",
            data.len()
        );
        return Err(Status::invalid_argument(problem));
    }
    let payload = point.payload.clone();
    Ok((
        id,
        Point {
            vector: data,
            payload,
        },
    ))
}
