//! Limits as messages. Each failure names its field.

use commonplace_proto::policy as proto;
use commonplace_types::Invalid;

use crate::rules::{Limits, Methods, Per, Quota, Rate, Unit};

/// Reads limits and checks them. Error: names the field.
pub fn limits_from_proto(limits: proto::Limits) -> Result<Limits, Invalid> {
    let rates = limits.rates.into_iter().enumerate().map(|(place, rate)| {
        rate_from_proto(rate).map_err(|invalid| invalid.under(&format!("rates[{place}]")))
    });
    let quotas = limits.quotas.into_iter().enumerate().map(|(place, quota)| {
        quota_from_proto(quota).map_err(|invalid| invalid.under(&format!("quotas[{place}]")))
    });
    Limits {
        rates: rates.collect::<Result<_, _>>()?,
        quotas: quotas.collect::<Result<_, _>>()?,
    }
    .checked()
}

/// Writes limits.
pub fn limits_to_proto(limits: &Limits) -> proto::Limits {
    let rate = |rate: &Rate| proto::RateLimit {
        per: per_to_proto(rate.per).into(),
        name: rate.name.clone(),
        methods: methods_to_proto(rate.methods).into(),
        unit: unit_to_proto(rate.unit).into(),
        per_second: rate.per_second,
        burst: rate.burst,
    };
    let quota = |quota: &Quota| proto::StorageQuota {
        per: per_to_proto(quota.per).into(),
        name: quota.name.clone(),
        unit: unit_to_proto(quota.unit).into(),
        most: quota.most,
    };
    proto::Limits {
        rates: limits.rates.iter().map(rate).collect(),
        quotas: limits.quotas.iter().map(quota).collect(),
    }
}

fn rate_from_proto(rate: proto::RateLimit) -> Result<Rate, Invalid> {
    let (per, methods, unit) = (rate.per(), rate.methods(), rate.unit());
    Ok(Rate {
        per: per_from_proto(per)?,
        methods: methods_from_proto(methods),
        unit: unit_from_proto(unit)?,
        per_second: rate.per_second,
        burst: rate.burst,
        name: rate.name,
    })
}

fn quota_from_proto(quota: proto::StorageQuota) -> Result<Quota, Invalid> {
    let (per, unit) = (quota.per(), quota.unit());
    Ok(Quota {
        per: per_from_proto(per)?,
        unit: unit_from_proto(unit)?,
        most: quota.most,
        name: quota.name,
    })
}

fn per_from_proto(per: proto::LimitPer) -> Result<Per, Invalid> {
    match per {
        proto::LimitPer::Tenant => Ok(Per::Tenant),
        proto::LimitPer::Project => Ok(Per::Project),
        proto::LimitPer::Principal => Ok(Per::Principal),
        proto::LimitPer::Unspecified => Err(Invalid::new(
            "per",
            "expected a tenant, a project or a principal",
        )),
    }
}

fn per_to_proto(per: Per) -> proto::LimitPer {
    match per {
        Per::Tenant => proto::LimitPer::Tenant,
        Per::Project => proto::LimitPer::Project,
        Per::Principal => proto::LimitPer::Principal,
    }
}

fn methods_from_proto(methods: proto::LimitMethods) -> Methods {
    match methods {
        proto::LimitMethods::Unspecified | proto::LimitMethods::All => Methods::All,
        proto::LimitMethods::Reads => Methods::Reads,
        proto::LimitMethods::Writes => Methods::Writes,
        proto::LimitMethods::Searches => Methods::Searches,
    }
}

fn methods_to_proto(methods: Methods) -> proto::LimitMethods {
    match methods {
        Methods::All => proto::LimitMethods::All,
        Methods::Reads => proto::LimitMethods::Reads,
        Methods::Writes => proto::LimitMethods::Writes,
        Methods::Searches => proto::LimitMethods::Searches,
    }
}

fn unit_from_proto(unit: proto::LimitUnit) -> Result<Unit, Invalid> {
    match unit {
        proto::LimitUnit::Requests => Ok(Unit::Requests),
        proto::LimitUnit::Bytes => Ok(Unit::Bytes),
        proto::LimitUnit::Events => Ok(Unit::Events),
        proto::LimitUnit::Unspecified => {
            Err(Invalid::new("unit", "expected requests, bytes or events"))
        }
    }
}

fn unit_to_proto(unit: Unit) -> proto::LimitUnit {
    match unit {
        Unit::Requests => proto::LimitUnit::Requests,
        Unit::Bytes => proto::LimitUnit::Bytes,
        Unit::Events => proto::LimitUnit::Events,
    }
}
